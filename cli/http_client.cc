#include "cli/http_client.h"

#include <curl/curl.h>

#include <memory>

namespace weir::cli {
namespace {

constexpr size_t kMaxBody = size_t{256} << 20;

size_t receive(char* data, size_t size, size_t count, void* user) {
  auto* body = static_cast<std::string*>(user);
  if (body->size() + size * count > kMaxBody) return 0;  // aborts the transfer
  body->append(data, size * count);
  return size * count;
}

std::string escape(CURL* curl, const std::string& text) {
  char* raw = curl_easy_escape(curl, text.data(), static_cast<int>(text.size()));
  WEIR_CHECK(raw != nullptr);
  std::string out = raw;
  curl_free(raw);
  return out;
}

}  // namespace

HttpClient::HttpClient(std::string server, std::chrono::seconds timeout)
    : server_(std::move(server)), timeout_(timeout) {
  while (!server_.empty() && server_.back() == '/') server_.pop_back();
}

Result<HttpResponse> HttpClient::get(const std::string& path, const Parameters& parameters) const {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 &curl_easy_cleanup);
  WEIR_CHECK(curl != nullptr);
  std::string url = server_ + path;
  char separator = '?';
  for (const auto& [name, value] : parameters) {
    url += separator + escape(curl.get(), name) + "=" + escape(curl.get(), value);
    separator = '&';
  }
  HttpResponse response;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_NOPROXY, "127.0.0.1,localhost,::1");
  curl_easy_setopt(curl.get(), CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, 5L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, long{timeout_.count()});
  curl_easy_setopt(curl.get(), CURLOPT_ACCEPT_ENCODING, "");
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, &receive);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &response.body);
  if (const CURLcode code = curl_easy_perform(curl.get()); code != CURLE_OK) {
    return Error{Errc::kUnavailable,
                 "no answer from " + server_ + " (" + curl_easy_strerror(code) +
                     "); is the aggregator running, and is --server or WEIR_SERVER right?"};
  }
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &response.status);
  return response;
}

}  // namespace weir::cli
