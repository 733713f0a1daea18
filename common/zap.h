#pragma once
// ZAP (RFC 27), the questions libzmq asks when a peer has proved that it has a key: may it come in?
//
// Pure. Promise: any frames give a request or nothing; an answer has the six frames libzmq expects.

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/keys.h"

namespace weir {

struct ZapRequest {
  std::string id;
  std::string domain;
  std::string address;  // of the peer
  PublicKey key{};
};

// Frames as a REP socket has them: version, id, domain, address, routing id, mechanism,
// credentials. Nothing for any other mechanism than CURVE: a door with keys lets nobody in without
// one.
[[nodiscard]] std::optional<ZapRequest> parse_zap(std::span<const ByteView> frames);

using ZapAnswer = std::array<std::string, 6>;  // version, id, status code and text, user, metadata

// Let in as `user`, which every message of the connection will carry as its User-Id.
[[nodiscard]] ZapAnswer zap_accept(std::string_view id, std::string_view user);
[[nodiscard]] ZapAnswer zap_refuse(std::string_view id, std::string_view reason);

}  // namespace weir
