// Heads, routes, marks and templates over any bytes, compared with plain string searches.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "bpf/http_parse.h"
#include "common/check.h"
#include "daemon/listeners.h"
#include "daemon/routes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  char head[16] = {};
  const auto n = static_cast<__u32>(std::min<size_t>(size, sizeof head));
  std::memcpy(head, data, n);
  __u64 words[2];
  std::memcpy(words, head, sizeof words);
  const auto request = weir_parse_request(words[0], words[1], n);
  const auto response = weir_parse_response(words[0], words[1], n);
  WEIR_CHECK(request.kind != WEIR_HEAD_WHOLE || head[request.path_off - 1] == ' ');
  WEIR_CHECK(response.kind != WEIR_HEAD_WHOLE || (response.value >= 100 && response.value < 600));

  // A head cut anywhere and joined again is the same head.
  for (__u32 cut = 1; cut < n && cut < 16; ++cut) {
    __u64 left[2] = {};
    __u64 right[2] = {};
    std::memcpy(left, head, cut);
    std::memcpy(right, head + cut, n - cut);
    __u64 a = 0;
    __u64 b = 0;
    weir_join(left[0], left[1], cut, right[0], right[1], &a, &b);
    WEIR_CHECK(a == words[0] && b == words[1]);
  }

  char block[WEIR_SCAN_BYTES] = {};
  std::memcpy(block, data, std::min<size_t>(size, sizeof block));
  __u64 block_words[WEIR_SCAN_BYTES / 8];
  std::memcpy(block_words, block, sizeof block);
  const auto at = std::string_view(block, sizeof block).find("\r\n\r\n");
  const auto bits = weir_find4(block_words, '\r', '\n', '\r', '\n');
  WEIR_CHECK((bits != 0) == (at != std::string_view::npos));
  WEIR_CHECK(bits == 0 || weir_lowest_bit(bits) == at);

  const auto protocol = weir_parse_protocol(words[0], words[1], n);
  WEIR_CHECK(protocol.kind != WEIR_HEAD_WHOLE || request.kind != WEIR_HEAD_WHOLE);
  weir_parse_length(words[0], words[1]);
  WEIR_CHECK(!weir_is_content_length(words[0], words[1]) || head[14] == ':');

  const auto hashed = weir::daemon::hashed_template({data, size});
  for (const auto& route : {hashed, weir::daemon::with_rules(hashed)}) {
    WEIR_CHECK(!route.empty() && route.size() <= 161);
    for (const char c : route) WEIR_CHECK(c > ' ' && c < 0x7f);
  }
  for (const auto& row :
       weir::daemon::parse_listening(std::string(reinterpret_cast<const char*>(data), size))) {
    WEIR_CHECK(row.port <= 65535);
  }
  return 0;
}
