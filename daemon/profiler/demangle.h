#pragma once
// Names of functions as people write them. Symbol names come from files anybody may have made:
// they are hostile until they went through here.
//
// Owner: the Symbolizer; one thread. Promise: what comes out is valid UTF-8 without control
// characters, never empty, at most kMaxNameBytes. Cost: one hash lookup per known name; a new one
// is demangled once. Bounded: kMaxCached names, then the cache starts over.

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/hash.h"

namespace weir::daemon {

inline constexpr size_t kMaxNameBytes = 512;

// Bytes that are not UTF-8 and control characters (C0, DEL, C1) become '?'; cut at a character
// boundary; "?" when nothing is left.
[[nodiscard]] std::string clean_name(std::string_view raw, size_t max_bytes = kMaxNameBytes);

// The C++ name of an Itanium-mangled symbol, cleaned; any other name only cleaned. A name that
// could unfold beyond all bounds (each back-reference may double it) stays mangled.
[[nodiscard]] std::string demangle(std::string_view symbol);

class Demangler {
 public:
  [[nodiscard]] const std::string& name(std::string_view symbol);

 private:
  static constexpr size_t kMaxCached = 16'384;
  std::unordered_map<std::string, std::string, TextHash, std::equal_to<>> names_;
};

}  // namespace weir::daemon
