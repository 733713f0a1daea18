#pragma once
// Keys: who a host is on the wire. A CURVE key pair in two files of one folder, and the public
// line that names its owner:
//
//   host.key  0600  the secret half, Z85
//   host.pub  0644  `z85 source-uuid role not_after`, the line the other end's allow-list holds
//
// Owner and thread: plain values but for KeyPair, which has one owner; any thread. Promise: any
// bytes parse to a value or to an error that says file:line and what to do; a secret that others
// could read, and what others could write or swap, is refused; secrets are wiped when they go. Z85
// is libzmq's own C function, key pairs are libsodium's.

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/batch.h"
#include "common/bytes.h"
#include "common/result.h"

namespace weir {

// What a key may be used for; the receiver decides what a role may send.
enum class Role : uint8_t { kEdge, kRegion, kGlobal };

[[nodiscard]] std::string_view role_name(Role role);
[[nodiscard]] std::optional<Role> parse_role(std::string_view name);

// Who sent a message: what the allow-list says of the key it was encrypted with.
struct Identity {
  SourceId source{};
  Role role = Role::kEdge;
  friend bool operator==(const Identity&, const Identity&) = default;
};

using PublicKey = std::array<std::byte, 32>;

inline constexpr size_t kZ85KeySize = 40;
[[nodiscard]] std::string z85_text(const PublicKey& key);
[[nodiscard]] std::optional<PublicKey> parse_z85(std::string_view text);

// "8-4-4-4-12" hexadecimal digits.
[[nodiscard]] std::string uuid_text(const SourceId& id);
[[nodiscard]] std::optional<SourceId> parse_uuid(std::string_view text);
[[nodiscard]] SourceId random_uuid();

struct PublicLine {
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  PublicKey key{};
  Identity owner;
  int64_t not_after_s = kNever;  // Unix; refused from then on
  friend bool operator==(const PublicLine&, const PublicLine&) = default;
};

[[nodiscard]] std::string public_line_text(const PublicLine& line);
// Every line of a file; `name` stands in errors. Empty lines and lines that begin with '#' are
// comments: no key begins so, for '#' is the digit 84 and the first of five is at most 82.
Result<std::vector<PublicLine>> parse_public_lines(std::string_view name, std::string_view text);

// The bytes of a regular file of at most `max` bytes that only its owner and group can write, its
// owner being root or us; never follows a symbolic link, never waits.
Result<std::string> read_trusted_file(const std::string& path, size_t max);
// The same of a folder: who can write it can swap what is in it.
Status check_trusted_folder(const std::string& dir);

class KeyPair {
 public:
  static KeyPair generate(const Identity& owner, int64_t not_after_s);
  // host.key and host.pub of `dir`, when they fit each other and nobody else can read the secret.
  static Result<KeyPair> load(const std::string& dir);
  // The same, of a host of this role.
  static Result<KeyPair> load_for(const std::string& dir, Role role);
  KeyPair(KeyPair&& other) noexcept;
  KeyPair& operator=(KeyPair&& other) noexcept;
  KeyPair(const KeyPair&) = delete;
  KeyPair& operator=(const KeyPair&) = delete;
  ~KeyPair();

  // Makes both files, durably, or none; replaces none.
  Status save(const std::string& dir) const;

  [[nodiscard]] const PublicLine& line() const { return line_; }

  [[nodiscard]] const PublicKey& secret() const { return secret_; }

 private:
  KeyPair() = default;
  PublicKey secret_{};
  PublicLine line_;
};

}  // namespace weir
