#pragma once
// Kallsyms: the functions of the running kernel and its modules, from /proc/kallsyms.
//
// Owner: the Symbolizer; one thread. Promise: a file of any content is survived; addresses that are
// all zero (no CAP_SYSLOG) are an Error of kind kUnavailable. Cost: loading reads some 10 MB of
// text (tens of ms); 16 B a function and its name; lookup a binary search.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace weir::daemon {

class Kallsyms {
 public:
  struct Symbol {
    std::string_view module;  // "[kernel]", or "[nf_tables]"
    std::string_view name;
  };

  static constexpr size_t kMaxSymbols = size_t{1} << 20;
  static constexpr size_t kMaxModules = 4096;
  static constexpr size_t kMaxLineBytes = 1024;
  static constexpr uint64_t kMaxFunctionBytes = uint64_t{1} << 20;

  static Result<Kallsyms> load(const std::string& path);

  // The nearest function at or below the address; none if there is none near.
  [[nodiscard]] std::optional<Symbol> at(uint64_t address) const;

  [[nodiscard]] size_t size() const { return functions_.size(); }

  [[nodiscard]] uint64_t skipped() const { return skipped_; }  // lines not understood, or too many

 private:
  struct Function {
    uint64_t start = 0;
    uint32_t name = 0;    // into names_, NUL-terminated
    uint32_t module = 0;  // into modules_
  };

  bool add(std::string_view line);
  uint32_t module_index(std::string_view module);

  std::vector<Function> functions_;  // by start
  std::vector<std::string> modules_{"[kernel]"};
  std::string names_;
  uint64_t skipped_ = 0;
};

}  // namespace weir::daemon
