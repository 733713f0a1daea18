#include "common/keys.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <span>
#include <system_error>
#include <utility>

#include <fmt/core.h>
#include <zmq.h>

#include "common/check.h"
#include "common/fd.h"
#include "common/time_text.h"

namespace weir {
namespace {

constexpr std::array<std::pair<std::string_view, Role>, 3> kRoles = {
    {{"edge", Role::kEdge}, {"region", Role::kRegion}, {"global", Role::kGlobal}}};
constexpr std::array<size_t, 4> kDashes = {8, 13, 18, 23};  // of a UUID
constexpr size_t kUuidSize = 36;
constexpr std::string_view kNeverText = "never";
constexpr size_t kMaxHostFile = 4096;
constexpr std::string_view kMakeKeys = "make a pair with: weir keys new --role ROLE --dir ";

unsigned char* raw(PublicKey& key) { return reinterpret_cast<unsigned char*>(key.data()); }

const unsigned char* raw(const PublicKey& key) {
  return reinterpret_cast<const unsigned char*>(key.data());
}

std::string reason_of(int error) { return std::system_category().message(error); }

Error io_error(const std::string& path, const char* what) {
  return {Errc::kIo, fmt::format("{}: cannot {}: {}", path, what, reason_of(errno))};
}

// Initialises libsodium once; it fails only when the kernel has no random numbers.
void need_sodium() { WEIR_CHECK(sodium_init() >= 0); }

// "2027-11-21T00:00:00Z" and nothing else.
std::optional<int64_t> parse_time(std::string_view text) {
  using std::chrono::day;
  using std::chrono::month;
  using std::chrono::year;
  constexpr std::string_view kShape = "0000-00-00T00:00:00Z";
  if (text.size() != kShape.size()) return {};
  std::array<int, 6> fields{};
  size_t field = 0;
  for (size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] != '0') {
      if (text[i] != kShape[i]) return {};
      ++field;
    } else if (text[i] >= '0' && text[i] <= '9') {
      fields[field] = fields[field] * 10 + (text[i] - '0');
    } else {
      return {};
    }
  }
  const std::chrono::year_month_day date{year(fields[0]), month(static_cast<unsigned>(fields[1])),
                                         day(static_cast<unsigned>(fields[2]))};
  if (!date.ok() || fields[3] > 23 || fields[4] > 59 || fields[5] > 59) return {};
  const auto days = std::chrono::sys_days(date).time_since_epoch();
  return int64_t{days.count()} * 86400 + fields[3] * 3600 + fields[4] * 60 + fields[5];
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos || words.size() > 4) return words;
    line.remove_prefix(begin);
    const size_t end = std::min(line.find_first_of(" \t\r"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

Result<PublicLine> parse_line(std::span<const std::string_view> words) {
  if (words.size() != 4) {
    return invalid("expected four words: z85-key source-uuid role not_after, as host.pub has them");
  }
  PublicLine line;
  const auto key = parse_z85(words[0]);
  if (!key) return invalid("the first word is no public key: 40 characters of Z85 are expected");
  const auto source = parse_uuid(words[1]);
  if (!source) {
    return invalid("the second word is no source: a UUID like 8-4-4-4-12 hexadecimal digits");
  }
  if (*source == SourceId{}) return invalid("the second word is the UUID of nobody");
  const auto role = parse_role(words[2]);
  if (!role) return invalid("the third word is no role: edge, region or global is expected");
  if (words[3] != kNeverText) {
    const auto time = parse_time(words[3]);
    if (!time) {
      return invalid("the fourth word is no end: a time like 2027-11-21T00:00:00Z, or never");
    }
    line.not_after_s = *time;
  }
  line.key = *key;
  line.owner = {*source, *role};
  return line;
}

// What makes a secret no secret.
Status check_secret_file(int fd, const std::string& path) {
  struct stat info {};

  if (::fstat(fd, &info) != 0) return io_error(path, "look at it");
  if ((info.st_mode & 077) != 0) {
    return invalid(fmt::format("{}: others may read it (mode {:04o}): chmod 600 {}", path,
                               info.st_mode & 07777, path));
  }
  if (info.st_uid != ::geteuid() && info.st_uid != 0) {
    return invalid(fmt::format("{}: it belongs to user {}, not to the one who uses it: chown {} {}",
                               path, info.st_uid, ::geteuid(), path));
  }
  return {};
}

// What makes a list of names no list to rely on.
Status check_writers(const struct stat& info, const std::string& path) {
  if ((info.st_mode & S_IWOTH) != 0) {
    return invalid(
        fmt::format("{}: everybody may write it, and so let anybody in: chmod o-w {}", path, path));
  }
  if (info.st_uid != ::geteuid() && info.st_uid != 0) {
    return invalid(
        fmt::format("{}: it belongs to user {}, who is neither root nor we: chown root {}", path,
                    info.st_uid, path));
  }
  return {};
}

Result<Fd> open_regular(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) {
    if (errno == ELOOP) {
      return invalid(path + ": is a symbolic link: put the file itself there");
    }
    const Errc code = errno == ENOENT ? Errc::kNotFound : Errc::kIo;
    return Error{code, fmt::format("{}: cannot open: {}", path, reason_of(errno))};
  }

  struct stat info {};

  if (::fstat(fd.get(), &info) != 0) return io_error(path, "look at it");
  if (!S_ISREG(info.st_mode)) return invalid(path + ": is no regular file");
  return fd;
}

Result<std::string> read_all(int fd, const std::string& path, size_t max) {
  std::string text(max + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = ::read(fd, text.data() + size, text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error(path, "read");
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  if (size > max) {
    return Error{Errc::kLimit, fmt::format("{}: is larger than {} bytes", path, max)};
  }
  text.resize(size);
  return text;
}

Error is_there(const std::string& path) {
  return invalid(path + ": is there already; move it away or name another folder");
}

Status check_absent(const std::string& path) {
  struct stat info {};

  if (::lstat(path.c_str(), &info) == 0) return is_there(path);
  return errno == ENOENT ? Status() : io_error(path, "look at it");
}

Status write_all(int fd, const std::string& path, std::string_view text, mode_t mode) {
  if (::fchmod(fd, mode) != 0) return io_error(path, "set its mode");  // whatever the umask
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error(path, "write");
    text.remove_prefix(static_cast<size_t>(n));
  }
  if (::fsync(fd) != 0) return io_error(path, "write");
  return {};
}

// A new file, whole and on disk, or an error and none; never one that was there.
Status write_new(const std::string& path, std::string_view text, mode_t mode) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd.valid()) return errno == EEXIST ? is_there(path) : io_error(path, "create");
  Status done = write_all(fd.get(), path, text, mode);
  if (!done) ::unlink(path.c_str());
  return done;
}

// The names of new files are on disk.
Status sync_folder(const std::string& dir) {
  const Fd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return io_error(dir, "write");
  return {};
}

}  // namespace

std::string_view role_name(Role role) {
  for (const auto& [name, value] : kRoles) {
    if (value == role) return name;
  }
  WEIR_CHECK(false);
}

std::optional<Role> parse_role(std::string_view name) {
  for (const auto& [known, role] : kRoles) {
    if (known == name) return role;
  }
  return {};
}

std::string z85_text(const PublicKey& key) {
  std::array<char, kZ85KeySize + 1> text{};
  WEIR_CHECK(zmq_z85_encode(text.data(), raw(key), key.size()) != nullptr);
  return text.data();
}

std::optional<PublicKey> parse_z85(std::string_view text) {
  // libzmq reads a table by character without looking at its sign, and accepts what it would never
  // write: so the round trip decides.
  if (text.size() != kZ85KeySize) return {};
  const auto printable = [](char c) { return c > ' ' && c < 0x7f; };
  if (!std::ranges::all_of(text, printable)) return {};
  // It may be a secret: nothing of it stays behind.
  PublicKey key{};
  std::array<char, kZ85KeySize + 1> terminated{};
  std::ranges::copy(text, terminated.begin());
  bool good = zmq_z85_decode(raw(key), terminated.data()) != nullptr;
  good = good && zmq_z85_encode(terminated.data(), raw(key), key.size()) != nullptr &&
         text == terminated.data();
  sodium_memzero(terminated.data(), terminated.size());
  if (good) return key;
  sodium_memzero(key.data(), key.size());
  return {};
}

std::string uuid_text(const SourceId& id) {
  std::string out;
  for (const std::byte b : id) {
    if (std::ranges::find(kDashes, out.size()) != kDashes.end()) out += '-';
    out += fmt::format("{:02x}", static_cast<unsigned>(b));
  }
  return out;
}

std::optional<SourceId> parse_uuid(std::string_view text) {
  if (text.size() != kUuidSize) return {};
  SourceId id{};
  size_t at = 0;
  for (std::byte& b : id) {
    if (std::ranges::find(kDashes, at) != kDashes.end() && text[at++] != '-') return {};
    unsigned value = 0;
    const char* const end = text.data() + at + 2;
    const auto [stopped, error] = std::from_chars(text.data() + at, end, value, 16);
    if (error != std::errc{} || stopped != end) return {};
    b = static_cast<std::byte>(value);
    at += 2;
  }
  return id;
}

SourceId random_uuid() {
  need_sodium();
  SourceId id{};
  randombytes_buf(id.data(), id.size());
  id[6] = (id[6] & std::byte{0x0f}) | std::byte{0x40};  // version 4, RFC 4122
  id[8] = (id[8] & std::byte{0x3f}) | std::byte{0x80};
  return id;
}

std::string public_line_text(const PublicLine& line) {
  const std::string end =
      line.not_after_s == PublicLine::kNever ? std::string(kNeverText) : rfc3339(line.not_after_s);
  return fmt::format("{} {} {} {}", z85_text(line.key), uuid_text(line.owner.source),
                     role_name(line.owner.role), end);
}

Result<std::vector<PublicLine>> parse_public_lines(std::string_view name, std::string_view text) {
  std::vector<PublicLine> lines;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto words = words_of(line);
    if (words.empty() || words[0].starts_with('#')) continue;
    auto parsed = parse_line(words);
    if (!parsed) return std::move(parsed).error().with(fmt::format("{}:{}", name, number));
    lines.push_back(*parsed);
  }
  return lines;
}

Result<std::string> read_trusted_file(const std::string& path, size_t max) {
  WEIR_TRY_ASSIGN(const Fd fd, open_regular(path));

  struct stat info {};

  if (::fstat(fd.get(), &info) != 0) return io_error(path, "look at it");
  WEIR_TRY(check_writers(info, path));
  return read_all(fd.get(), path, max);
}

Status check_trusted_folder(const std::string& dir) {
  struct stat info {};

  if (::stat(dir.c_str(), &info) != 0) return io_error(dir, "open");
  if (!S_ISDIR(info.st_mode)) return invalid(dir + ": is no folder");
  return check_writers(info, dir);
}

KeyPair KeyPair::generate(const Identity& owner, int64_t not_after_s) {
  need_sodium();
  KeyPair pair;
  pair.line_.owner = owner;
  pair.line_.not_after_s = not_after_s;
  crypto_box_keypair(raw(pair.line_.key), raw(pair.secret_));
  return pair;
}

Result<KeyPair> KeyPair::load(const std::string& dir) {
  need_sodium();
  const std::string key_path = dir + "/host.key";
  const std::string pub_path = dir + "/host.pub";
  auto file = open_regular(key_path);
  if (!file) {
    Error error = std::move(file).error();
    if (error.code == Errc::kNotFound) error.message += fmt::format("; {}{}", kMakeKeys, dir);
    return error;
  }
  WEIR_TRY(check_trusted_folder(dir));
  WEIR_TRY(check_secret_file(file->get(), key_path));
  WEIR_TRY_ASSIGN(std::string text, read_all(file->get(), key_path, kMaxHostFile));
  const size_t last = text.find_last_not_of(" \t\r\n");
  auto secret = parse_z85(std::string_view(text).substr(0, last + 1));
  sodium_memzero(text.data(), text.size());
  if (!secret) {
    return invalid(
        fmt::format("{}: is no secret key (40 characters of Z85); {}{}", key_path, kMakeKeys, dir));
  }
  KeyPair pair;
  pair.secret_ = *secret;
  sodium_memzero(secret->data(), secret->size());

  WEIR_TRY_ASSIGN(const std::string line, read_trusted_file(pub_path, kMaxHostFile));
  WEIR_TRY_ASSIGN(const auto lines, parse_public_lines(pub_path, line));
  if (lines.size() != 1) {
    return invalid(fmt::format("{}: expected one line, got {}", pub_path, lines.size()));
  }
  pair.line_ = lines.front();
  PublicKey public_half{};
  if (crypto_scalarmult_base(raw(public_half), raw(pair.secret_)) != 0 ||
      public_half != pair.line_.key) {
    return invalid(
        fmt::format("{}: is not the public half of {}; {}{}", pub_path, key_path, kMakeKeys, dir));
  }
  return pair;
}

Result<KeyPair> KeyPair::load_for(const std::string& dir, Role role) {
  WEIR_TRY_ASSIGN(KeyPair pair, load(dir));
  const Role found = pair.line_.owner.role;
  if (found == role) return pair;
  return invalid(
      fmt::format("{}/host.pub: its role is {}, and this is the {}; make a pair with: "
                  "weir keys new --role {} --dir {}",
                  dir, role_name(found), role_name(role), role_name(role), dir));
}

KeyPair::KeyPair(KeyPair&& other) noexcept : secret_(other.secret_), line_(other.line_) {
  sodium_memzero(other.secret_.data(), other.secret_.size());
}

KeyPair& KeyPair::operator=(KeyPair&& other) noexcept {
  if (this == &other) return *this;
  secret_ = other.secret_;
  line_ = other.line_;
  sodium_memzero(other.secret_.data(), other.secret_.size());
  return *this;
}

KeyPair::~KeyPair() { sodium_memzero(secret_.data(), secret_.size()); }

Status KeyPair::save(const std::string& dir) const {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) return Error{Errc::kIo, fmt::format("{}: cannot create: {}", dir, error.message())};
  const std::string key_path = dir + "/host.key";
  const std::string pub_path = dir + "/host.pub";
  WEIR_TRY(check_absent(key_path));
  WEIR_TRY(check_absent(pub_path));
  // Of a fixed size: what a string grows out of is not wiped.
  std::array<char, kZ85KeySize + 1> secret{};
  WEIR_CHECK(zmq_z85_encode(secret.data(), raw(secret_), secret_.size()) != nullptr);
  secret.back() = '\n';
  const Status written = write_new(key_path, {secret.data(), secret.size()}, 0600);
  sodium_memzero(secret.data(), secret.size());
  WEIR_TRY(written);
  Status published = write_new(pub_path, public_line_text(line_) + "\n", 0644);
  if (published) published = sync_folder(dir);
  if (!published) {
    ::unlink(key_path.c_str());
    ::unlink(pub_path.c_str());
  }
  return published;
}

}  // namespace weir
