#include "daemon/profiler/demangle.h"

#include <cxxabi.h>

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "common/utf8.h"

namespace weir::daemon {
namespace {

// __cxa_demangle has no limit on its output, and "f(P<A,A>, P<that,that>, ...)" doubles with each
// pair of back-references: 210 bytes of symbol make 35 MB of name. Real names stay far below these
// limits (of 68,893 names in LLVM and clang 5 have more than 32 back-references).
constexpr size_t kMaxMangledBytes = 1024;
constexpr size_t kMaxBackReferences = 32;

size_t back_references(std::string_view symbol) {
  size_t found = 0;
  for (size_t i = 0; i + 1 < symbol.size(); ++i) {
    if (symbol[i] != 'S' && symbol[i] != 'T') continue;  // S_ S0_ SZ_ T_ T1_
    size_t end = i + 1;
    while (end < symbol.size() && ((symbol[end] >= '0' && symbol[end] <= '9') ||
                                   (symbol[end] >= 'A' && symbol[end] <= 'Z'))) {
      ++end;
    }
    if (end < symbol.size() && symbol[end] == '_') ++found;
  }
  return found;
}

// The length of the valid, printable UTF-8 character at the front of `text`; 0 if there is none.
size_t printable_character(std::string_view text) {
  const size_t size = utf8_sequence(text);
  const auto byte = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (size == 1) return byte(0) >= 0x20 && byte(0) != 0x7f ? 1 : 0;
  if (size == 2 && byte(0) == 0xc2 && byte(1) < 0xa0) return 0;  // C1 controls
  return size;
}

}  // namespace

std::string clean_name(std::string_view raw, size_t max_bytes) {
  std::string out;
  out.reserve(raw.size() < max_bytes ? raw.size() : max_bytes);
  while (!raw.empty()) {
    const size_t size = printable_character(raw);
    if (out.size() + (size == 0 ? 1 : size) > max_bytes) break;
    if (size == 0) {
      out += '?';
    } else {
      out += raw.substr(0, size);
    }
    raw.remove_prefix(size == 0 ? 1 : size);
  }
  if (out.empty()) out.push_back('?');
  return out;
}

std::string demangle(std::string_view symbol) {
  if (!symbol.starts_with("_Z") || symbol.size() > kMaxMangledBytes ||
      back_references(symbol) > kMaxBackReferences) {
    return clean_name(symbol);
  }
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> plain(
      abi::__cxa_demangle(std::string(symbol).c_str(), nullptr, nullptr, &status), &std::free);
  return clean_name(status == 0 && plain != nullptr ? plain.get() : symbol);
}

const std::string& Demangler::name(std::string_view symbol) {
  if (const auto known = names_.find(symbol); known != names_.end()) return known->second;
  if (names_.size() >= kMaxCached) names_.clear();
  return names_.emplace(symbol, demangle(symbol)).first->second;
}

}  // namespace weir::daemon
