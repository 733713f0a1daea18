#pragma once
// ElfSymbols: the functions of one ELF file, to name an address. Our own reader, because anybody
// may have made the file: nothing in it is believed, every offset and size is checked, every table
// is capped.
//
// Owner: the ObjectCache; one thread. Promise: no input crashes, reads out of bounds or allocates
// beyond ElfLimits; a file that contradicts itself is an Error. Names are raw bytes: pass them
// through demangle.h before showing them. Cost: 16 B a function and its name; lookup a binary
// search; parsing reads only headers, one symbol table and its strings.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/fd.h"
#include "common/result.h"

namespace weir::daemon {

// The bytes of a file or of memory. Files are read, never mapped: a mapped file that somebody
// shortens kills the reader.
class ElfInput {
 public:
  explicit ElfInput(ByteView memory) : memory_(memory), size_(memory.size()) {}

  static Result<ElfInput> of_file(int fd);  // borrows the descriptor of a regular file

  // False when [offset, offset + out.size()) is not all inside, or cannot be read.
  [[nodiscard]] bool read(uint64_t offset, std::span<std::byte> out) const;

  [[nodiscard]] uint64_t size() const { return size_; }

 private:
  ElfInput(int fd, uint64_t size) : fd_(fd), size_(size) {}

  int fd_ = -1;  // -1: memory_
  ByteView memory_;
  uint64_t size_;
};

struct ElfLimits {
  size_t scanned = size_t{1} << 23;        // entries of the symbol table looked at
  size_t symbols = size_t{1} << 20;        // functions kept; more are counted, not kept
  size_t string_bytes = size_t{64} << 20;  // the string table while parsing
  size_t name_bytes = size_t{32} << 20;    // names kept
  size_t one_name = 4096;
};

class ElfSymbols {
 public:
  static Result<ElfSymbols> parse(const ElfInput& input, const ElfLimits& limits = {});

  // The function that covers this address of the file's own address space.
  [[nodiscard]] std::optional<std::string_view> name_at(uint64_t address) const;

  // Where an executable byte of the file lives in its address space; none if it is in no segment.
  [[nodiscard]] std::optional<uint64_t> address_of(uint64_t file_offset) const;

  // True when the names come from .symtab; .dynsym knows exported functions only.
  [[nodiscard]] bool complete() const { return complete_; }

  // Lower-case hex; empty when the file has none.
  [[nodiscard]] const std::string& build_id() const { return build_id_; }

  // Takes the names of a debug file of the same build; the segments stay ours.
  void take_names_from(ElfSymbols debug);

  [[nodiscard]] size_t size() const { return functions_.size(); }

  [[nodiscard]] uint64_t dropped() const { return dropped_; }  // symbols beyond the limits

  [[nodiscard]] size_t memory_bytes() const;

 private:
  friend class ElfParser;

  struct Function {
    uint64_t start = 0;
    uint32_t size = 0;  // 0: until the next function
    uint32_t name = 0;  // into names_, NUL-terminated
  };

  static_assert(sizeof(Function) == 16);

  struct Segment {
    uint64_t file_offset = 0;
    uint64_t size = 0;
    uint64_t address = 0;
  };

  [[nodiscard]] std::string_view name_of(const Function& function) const {
    return names_.data() + function.name;
  }

  std::vector<Function> functions_;  // by start, one per start
  std::vector<Segment> segments_;    // executable
  std::string names_;
  std::string build_id_;
  uint64_t dropped_ = 0;
  bool complete_ = false;
};

}  // namespace weir::daemon
