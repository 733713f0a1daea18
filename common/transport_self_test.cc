#include "common/transport_self_test.h"

#include <optional>

#include "common/check.h"
#include "common/transport_socket.h"

namespace weir::transport {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kPatience{10'000};

// A door on all addresses is reached on this host's own.
std::string reachable(std::string endpoint) {
  for (const auto& [any, here] :
       {std::pair<std::string, std::string>{"tcp://0.0.0.0:", "tcp://127.0.0.1:"},
        {"tcp://[::]:", "tcp://[::1]:"}}) {
    if (endpoint.starts_with(any)) return here + endpoint.substr(any.size());
  }
  return endpoint;
}

// How it is refused differs: who has no key may be cut before it has read why.
Status expect_refused(Loop& loop, const std::string& endpoint, const KeyPair* stranger,
                      const PublicKey& server_key) {
  TransportContext context;
  const auto socket = make_socket(context, loop, zmq::socket_type::dealer, endpoint);
  if (stranger != nullptr) {
    (*socket)->set(zmq::sockopt::curve_serverkey, z85_text(server_key));
    (*socket)->set(zmq::sockopt::curve_publickey, z85_text(stranger->line().key));
    (*socket)->set(zmq::sockopt::curve_secretkey, z85_text(stranger->secret()));
  }
  std::optional<Handshake> outcome;
  bool late = false;
  const HandshakeMonitor monitor(context, loop, *socket, [&](Handshake seen) {
    if (!outcome) outcome = seen;
  });
  const auto timer = loop.after(kPatience, [&] { late = true; });
  (*socket)->connect(endpoint);
  while (!outcome && !late) loop.turn(kPatience);
  loop.remove(timer);
  if (outcome && *outcome != Handshake::kDone) return {};
  const std::string who = stranger != nullptr ? "a key nobody knows" : "a client without a key";
  return Error{Errc::kInternal, endpoint + (outcome ? " lets in " : " does not answer ") + who +
                                    ": this libzmq does not guard the door, so it stays closed"};
}

}  // namespace

Status check_strangers_are_refused(Loop& loop, const std::string& endpoint,
                                   const PublicKey& server_key) {
  const std::string target = reachable(endpoint);
  const KeyPair stranger = KeyPair::generate({random_uuid(), Role::kEdge}, PublicLine::kNever);
  try {
    WEIR_TRY(expect_refused(loop, target, &stranger, server_key));
    return expect_refused(loop, target, nullptr, server_key);
  } catch (const zmq::error_t& error) {
    return zmq_error("trying", target, error);
  }
}

}  // namespace weir::transport
