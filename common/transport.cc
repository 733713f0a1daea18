#include "common/transport.h"

#include <sys/resource.h>

#include <charconv>
#include <string_view>
#include <utility>

#include "common/log.h"
#include "common/transport_door.h"
#include "common/transport_link.h"
#include "common/transport_self_test.h"

namespace weir {
namespace {

bool is_loopback_host(std::string_view host) {
  if (host == "localhost" || host == "[::1]") return true;
  if (!host.starts_with("127.")) return false;
  int parts = 0;
  while (true) {  // exactly four numbers 0..255, so that 127.0.0.1.example.org is no address
    unsigned number = 256;
    const auto [end, error] = std::from_chars(host.data(), host.data() + host.size(), number);
    if (error != std::errc{} || number > 255) return false;
    host.remove_prefix(static_cast<size_t>(end - host.data()));
    ++parts;
    if (host.empty()) return parts == 4;
    if (host.front() != '.') return false;
    host.remove_prefix(1);
  }
}

// libzmq leaves CURVE away on inproc without a word.
Status check_can_have_keys(const std::string& endpoint) {
  if (!endpoint.starts_with("inproc://")) return {};
  return invalid("endpoint " + endpoint + " cannot have keys: it is within one process");
}

}  // namespace

TransportContext::TransportContext() : context_(new zmq::context_t(1)) {}

TransportContext::~TransportContext() { delete static_cast<zmq::context_t*>(context_); }

Status check_endpoint_is_safe(const std::string& endpoint) {
  const std::string_view text = endpoint;
  if (text.starts_with("ipc://") || text.starts_with("inproc://")) return {};
  constexpr std::string_view kTcp = "tcp://";
  if (text.starts_with(kTcp)) {
    const auto colon = text.rfind(':');
    if (colon > kTcp.size() && is_loopback_host(text.substr(kTcp.size(), colon - kTcp.size()))) {
      return {};
    }
  }
  return invalid("endpoint " + endpoint +
                 " is not on this host, so CURVE keys are needed: make a pair with `weir keys new` "
                 "and give `keys: {dir: ...}`, and to connect, the server's own key as "
                 "`server_keys`; without keys use tcp on loopback (127.0.0.1, [::1], localhost), "
                 "ipc or inproc");
}

Result<std::unique_ptr<Link>> connect_link(TransportContext& context, Loop& loop,
                                           const std::string& endpoint,
                                           const LinkOptions& options) {
  if ((options.keys == nullptr) != options.server_keys.empty()) {
    return invalid("connecting to " + endpoint +
                   ": our keys and the server's `server_keys` go together");
  }
  WEIR_TRY(options.keys == nullptr ? check_endpoint_is_safe(endpoint)
                                   : check_can_have_keys(endpoint));
  try {
    return std::unique_ptr<Link>(
        std::make_unique<transport::ZmqLink>(context, loop, endpoint, options));
  } catch (const zmq::error_t& error) {
    return transport::zmq_error("connecting to", endpoint, error);
  }
}

Result<std::unique_ptr<Door>> bind_door(TransportContext& context, Loop& loop,
                                        const std::string& endpoint, const DoorOptions& options) {
  WEIR_CHECK((options.keys == nullptr) == (options.allow == nullptr));
  WEIR_CHECK((options.keys == nullptr) == (options.clock == nullptr));
  WEIR_TRY(options.keys == nullptr ? check_endpoint_is_safe(endpoint)
                                   : check_can_have_keys(endpoint));
  try {
    std::unique_ptr<Door> door =
        std::make_unique<transport::ZmqDoor>(context, loop, endpoint, options);
    if (options.keys != nullptr) {
      WEIR_TRY(transport::check_strangers_are_refused(
          loop, door->endpoint(), options.keys->line().key,
          [&] { return door->counters().at(transport::refused("plain")) > 0; }));
    }
    return door;
  } catch (const zmq::error_t& error) {
    return transport::zmq_error("binding", endpoint, error);
  }
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    log::warn("the limit of open files stays at the soft one: peers beyond it find no room");
  }
}

}  // namespace weir
