#include "common/transport_self_test.h"

#include <optional>

#include "common/check.h"
#include "common/transport_socket.h"

namespace weir::transport {
namespace {

using std::chrono::milliseconds;

// A door on all addresses is reached on this host's own.
std::string reachable(std::string endpoint) {
  for (const auto& [any, here] :
       {std::pair<std::string, std::string>{"tcp://0.0.0.0:", "tcp://127.0.0.1:"},
        {"tcp://[::]:", "tcp://[::1]:"}}) {
    if (endpoint.starts_with(any)) return here + endpoint.substr(any.size());
  }
  return endpoint;
}

struct Stranger {
  const char* what;
  const KeyPair* keys;      // null: none
  Handshake refusal;        // as it sees it
  const DoorSaw* door_saw;  // the same, as the door does; null: the door only answers
};

Status expect_refused(Loop& loop, const std::string& endpoint, const PublicKey& server_key,
                      milliseconds patience, const Stranger& stranger) {
  TransportContext context;
  const auto socket = make_socket(context, loop, zmq::socket_type::dealer, endpoint);
  if (stranger.keys != nullptr) {
    (*socket)->set(zmq::sockopt::curve_serverkey, z85_text(server_key));
    (*socket)->set(zmq::sockopt::curve_publickey, z85_text(stranger.keys->line().key));
    (*socket)->set(zmq::sockopt::curve_secretkey, z85_text(stranger.keys->secret()));
  }
  std::optional<Handshake> outcome;
  bool late = false;
  const HandshakeMonitor monitor(context, loop, *socket, [&](Handshake seen) {
    // Cut before it has read why: libzmq connects again by itself.
    if (!outcome && seen != Handshake::kUnfinished) outcome = seen;
  });
  const auto timer = loop.after(patience, [&] { late = true; });
  (*socket)->connect(endpoint);
  while (!outcome && !late) {
    loop.turn(patience);
    if (!outcome && stranger.door_saw != nullptr && (*stranger.door_saw)()) {
      outcome = stranger.refusal;
    }
  }
  loop.remove(timer);
  if (outcome == stranger.refusal) return {};
  const char* does = outcome == Handshake::kDone ? " lets in " : " does not refuse ";
  return Error{Errc::kInternal, endpoint + does + stranger.what +
                                    ": this libzmq does not guard the door, so it stays closed"};
}

}  // namespace

Status check_strangers_are_refused(Loop& loop, const std::string& endpoint,
                                   const PublicKey& server_key, const DoorSaw& saw_plain_client,
                                   milliseconds patience) {
  const std::string target = reachable(endpoint);
  const KeyPair keys = KeyPair::generate({random_uuid(), Role::kEdge}, PublicLine::kNever);
  try {
    WEIR_TRY(expect_refused(loop, target, server_key, patience,
                            {"a key nobody knows", &keys, Handshake::kRefused, nullptr}));
    // Both ends see that the other speaks another mechanism; who hangs up first tells the other one
    // nothing.
    return expect_refused(
        loop, target, server_key, patience,
        {"a client without a key", nullptr, Handshake::kPlain, &saw_plain_client});
  } catch (const zmq::error_t& error) {
    return zmq_error("trying", target, error);
  }
}

}  // namespace weir::transport
