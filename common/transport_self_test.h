#pragma once
// A door with keys, tried as a stranger would try it: libzmq lets any key in when its ZAP handler
// is missing or was bound too late, and says nothing.

#include <string>

#include "common/keys.h"
#include "common/loop.h"
#include "common/result.h"

namespace weir::transport {

// Turns the loop (the door's answers come from there) until a key made for this and a client
// without one were both refused; anything else is an error.
Status check_strangers_are_refused(Loop& loop, const std::string& endpoint,
                                   const PublicKey& server_key);

}  // namespace weir::transport
