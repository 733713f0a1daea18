#pragma once
// A door with keys, tried as a stranger would try it: libzmq lets any key in when its ZAP handler
// is missing or was bound too late, and says nothing.

#include <chrono>
#include <functional>
#include <string>

#include "common/keys.h"
#include "common/loop.h"
#include "common/result.h"

namespace weir::transport {

inline constexpr std::chrono::milliseconds kSelfTestPatience{10'000};

// Turns the loop (the door's answers come from there) until a key made for this was refused for
// being that, and a client without one because the door has keys (or `saw_plain_client` says that
// the door saw one). Anything else is an error; a handshake that was cut says nothing and is tried
// again, for `patience`.
using DoorSaw = std::function<bool()>;
Status check_strangers_are_refused(Loop& loop, const std::string& endpoint,
                                   const PublicKey& server_key, const DoorSaw& saw_plain_client,
                                   std::chrono::milliseconds patience = kSelfTestPatience);

}  // namespace weir::transport
