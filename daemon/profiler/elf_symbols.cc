#include "daemon/profiler/elf_symbols.h"

#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <tuple>
#include <utility>

namespace weir::daemon {
namespace {

constexpr size_t kMaxSegments = 256;
constexpr size_t kMaxSections = 65'536;
constexpr size_t kMaxNoteBytes = 64 << 10;
constexpr size_t kMaxBuildIdBytes = 64;
constexpr size_t kSymbolsPerRead = 4096;
// Symbols may nest (a local one inside a larger function): how far back to look for the outer one.
constexpr int kMaxNesting = 8;

std::string hex(ByteView bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::byte byte : bytes) {
    out += kDigits[static_cast<unsigned>(byte) >> 4];
    out += kDigits[static_cast<unsigned>(byte) & 0xf];
  }
  return out;
}

}  // namespace

Result<ElfInput> ElfInput::of_file(int fd) {
  struct stat info = {};
  if (::fstat(fd, &info) != 0) return Error{Errc::kIo, std::strerror(errno)};
  if (!S_ISREG(info.st_mode)) return invalid("not a regular file");
  return ElfInput(fd, static_cast<uint64_t>(info.st_size));
}

bool ElfInput::read(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset) return false;
  if (fd_ < 0) {
    if (!out.empty()) std::memcpy(out.data(), memory_.data() + offset, out.size());
    return true;
  }
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;  // an error, or the file became shorter
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return true;
}

// One parse: the input, its headers, and the table under construction.
class ElfParser {
 public:
  ElfParser(const ElfInput& input, const ElfLimits& limits) : input_(input), limits_(limits) {}

  Result<ElfSymbols> run() {
    WEIR_TRY(read_header());
    WEIR_TRY(read_segments());
    WEIR_TRY(read_sections());
    const Elf64_Shdr* full = find_section(SHT_SYMTAB);
    const Elf64_Shdr* table = full != nullptr ? full : find_section(SHT_DYNSYM);
    if (table != nullptr) {
      WEIR_TRY(read_symbols(*table));
      out_.complete_ = full != nullptr;
    }
    return std::move(out_);
  }

 private:
  // A function as read, with what decides between two at one address.
  struct Candidate {
    uint64_t start;
    uint64_t size;
    uint32_t name;
    uint8_t rank;  // lower is preferred
  };

  template <class T>
  [[nodiscard]] bool read_one(uint64_t offset, T& value) const {
    return input_.read(offset, std::as_writable_bytes(std::span(&value, 1)));
  }

  Status read_header() {
    if (!read_one(0, header_)) return invalid("not an ELF file");
    if (std::memcmp(header_.e_ident, ELFMAG, SELFMAG) != 0) return invalid("not an ELF file");
    if (header_.e_ident[EI_CLASS] != ELFCLASS64 || header_.e_ident[EI_DATA] != ELFDATA2LSB) {
      return invalid("not a 64-bit little-endian ELF file");
    }
    return {};
  }

  Status read_segments() {
    if (header_.e_phnum == 0) return {};
    if (header_.e_phentsize != sizeof(Elf64_Phdr) || header_.e_phnum > kMaxSegments) {
      return invalid("ELF program headers of unknown shape");
    }
    std::vector<Elf64_Phdr> all(header_.e_phnum);
    if (!input_.read(header_.e_phoff, std::as_writable_bytes(std::span(all)))) {
      return invalid("ELF program headers reach past the end");
    }
    for (const auto& segment : all) {
      if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0) {
        out_.segments_.push_back({segment.p_offset, segment.p_filesz, segment.p_vaddr});
      } else if (segment.p_type == PT_NOTE) {
        read_build_id(segment.p_offset, segment.p_filesz);
      }
    }
    return {};
  }

  Status read_sections() {
    if (header_.e_shoff == 0) return {};
    if (header_.e_shentsize != sizeof(Elf64_Shdr)) {
      return invalid("ELF section headers of unknown shape");
    }
    size_t count = header_.e_shnum;
    if (count == 0) {  // 65,280 or more: the number is in the first header
      Elf64_Shdr first = {};
      if (!read_one(header_.e_shoff, first)) return invalid("ELF section headers are cut off");
      count = first.sh_size;
    }
    if (count > kMaxSections) return invalid("too many ELF sections");
    sections_.resize(count);
    if (!input_.read(header_.e_shoff, std::as_writable_bytes(std::span(sections_)))) {
      return invalid("ELF section headers reach past the end");
    }
    for (const auto& section : sections_) {
      if (section.sh_type == SHT_NOTE) read_build_id(section.sh_offset, section.sh_size);
    }
    return {};
  }

  // A note that makes no sense is only a build id less.
  void read_build_id(uint64_t offset, uint64_t size) {
    if (!out_.build_id_.empty() || size > kMaxNoteBytes) return;
    std::vector<std::byte> raw(size);
    if (!input_.read(offset, raw)) return;
    ByteReader reader(raw);
    Elf64_Nhdr note = {};
    while (reader.get(note)) {
      const auto padded = [](uint32_t n) { return (size_t{n} + 3) & ~size_t{3}; };
      ByteView name;
      ByteView value;
      if (!reader.view(padded(note.n_namesz), name) || !reader.view(padded(note.n_descsz), value)) {
        return;
      }
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && note.n_descsz > 1 &&
          note.n_descsz <= kMaxBuildIdBytes && std::memcmp(name.data(), "GNU", 4) == 0) {
        out_.build_id_ = hex(value.first(note.n_descsz));
        return;
      }
    }
  }

  [[nodiscard]] const Elf64_Shdr* find_section(uint32_t type) const {
    const auto at = std::find_if(sections_.begin(), sections_.end(),
                                 [type](const auto& section) { return section.sh_type == type; });
    return at == sections_.end() ? nullptr : &*at;
  }

  // Functions, and the untyped labels in code that assembler leaves ("_start").
  [[nodiscard]] bool is_function(const Elf64_Sym& symbol) const {
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_value == 0 || symbol.st_name == 0) return false;
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    if (type == STT_FUNC || type == STT_GNU_IFUNC) return true;
    return type == STT_NOTYPE && symbol.st_shndx < sections_.size() &&
           (sections_[symbol.st_shndx].sh_flags & SHF_EXECINSTR) != 0;
  }

  Status read_symbols(const Elf64_Shdr& table) {
    if (table.sh_entsize != sizeof(Elf64_Sym)) return invalid("ELF symbols of unknown shape");
    if (table.sh_offset > input_.size() || table.sh_size > input_.size() - table.sh_offset) {
      return invalid("the ELF symbol table reaches past the end");
    }
    if (table.sh_link >= sections_.size()) return invalid("the ELF symbol table has no strings");
    const Elf64_Shdr& strings = sections_[table.sh_link];
    if (strings.sh_size > limits_.string_bytes) {
      return Error{Errc::kLimit, "the ELF string table is too large"};
    }
    if (strings.sh_offset > input_.size() || strings.sh_size > input_.size() - strings.sh_offset) {
      return invalid("the ELF string table reaches past the end");
    }
    std::vector<Candidate> found;
    WEIR_TRY(collect(table, strings.sh_size, found));
    std::vector<std::byte> text(strings.sh_size);
    if (!input_.read(strings.sh_offset, text)) return invalid("the ELF string table is unreadable");
    build(std::move(found), {reinterpret_cast<const char*>(text.data()), text.size()});
    return {};
  }

  Status collect(const Elf64_Shdr& table, uint64_t string_bytes, std::vector<Candidate>& found) {
    std::vector<Elf64_Sym> chunk;
    const uint64_t all = table.sh_size / sizeof(Elf64_Sym);
    const uint64_t count = std::min<uint64_t>(all, limits_.scanned);  // a sparse file costs nothing
    out_.dropped_ += all - count;
    for (uint64_t at = 0; at < count; at += chunk.size()) {
      chunk.resize(std::min<uint64_t>(kSymbolsPerRead, count - at));
      if (!input_.read(table.sh_offset + at * sizeof(Elf64_Sym),
                       std::as_writable_bytes(std::span(chunk)))) {
        return invalid("the ELF symbol table is unreadable");
      }
      for (const auto& symbol : chunk) {
        if (!is_function(symbol)) continue;
        if (symbol.st_name >= string_bytes || found.size() >= limits_.symbols) {
          ++out_.dropped_;
          continue;
        }
        found.push_back({symbol.st_value, symbol.st_size, symbol.st_name, rank(symbol)});
      }
    }
    return {};
  }

  // At one address prefer what has a size, then global over weak over local.
  static uint8_t rank(const Elf64_Sym& symbol) {
    const unsigned binding = ELF64_ST_BIND(symbol.st_info);
    const unsigned by_binding = binding == STB_GLOBAL ? 0 : binding == STB_WEAK ? 1 : 2;
    return static_cast<uint8_t>((symbol.st_size == 0 ? 4U : 0U) + by_binding);
  }

  void build(std::vector<Candidate> found, std::string_view strings) {
    const auto name_at = [&](uint32_t offset) {
      const std::string_view rest = strings.substr(offset, limits_.one_name);
      return rest.substr(0, rest.find('\0'));
    };
    std::sort(found.begin(), found.end(), [&](const Candidate& a, const Candidate& b) {
      if (a.start != b.start) return a.start < b.start;
      if (a.rank != b.rank) return a.rank < b.rank;
      return name_at(a.name) < name_at(b.name);
    });
    found.erase(std::unique(found.begin(), found.end(),
                            [](const auto& a, const auto& b) { return a.start == b.start; }),
                found.end());
    out_.functions_.reserve(found.size());
    for (const auto& function : found) {
      const std::string_view name = name_at(function.name);
      if (name.empty() || out_.names_.size() + name.size() + 1 > limits_.name_bytes) {
        ++out_.dropped_;
        continue;
      }
      const auto offset = static_cast<uint32_t>(out_.names_.size());
      out_.names_.append(name).push_back('\0');
      const uint64_t size = std::min<uint64_t>(function.size, std::numeric_limits<uint32_t>::max());
      out_.functions_.push_back({function.start, static_cast<uint32_t>(size), offset});
    }
    out_.names_.shrink_to_fit();
  }

  const ElfInput& input_;
  const ElfLimits& limits_;
  Elf64_Ehdr header_ = {};
  std::vector<Elf64_Shdr> sections_;
  ElfSymbols out_;
};

Result<ElfSymbols> ElfSymbols::parse(const ElfInput& input, const ElfLimits& limits) {
  return ElfParser(input, limits).run();
}

std::optional<std::string_view> ElfSymbols::name_at(uint64_t address) const {
  auto at = std::upper_bound(
      functions_.begin(), functions_.end(), address,
      [](uint64_t wanted, const Function& function) { return wanted < function.start; });
  for (int i = 0; i < kMaxNesting && at != functions_.begin(); ++i) {
    --at;
    if (at->size == 0 && i == 0) return name_of(*at);  // no size: until the next one
    if (address - at->start < at->size) return name_of(*at);
  }
  return std::nullopt;
}

std::optional<uint64_t> ElfSymbols::address_of(uint64_t file_offset) const {
  for (const auto& segment : segments_) {
    if (file_offset >= segment.file_offset && file_offset - segment.file_offset < segment.size) {
      return segment.address + (file_offset - segment.file_offset);
    }
  }
  return std::nullopt;
}

void ElfSymbols::take_names_from(ElfSymbols debug) {
  functions_ = std::move(debug.functions_);
  names_ = std::move(debug.names_);
  dropped_ = debug.dropped_;
  complete_ = debug.complete_;
}

size_t ElfSymbols::memory_bytes() const {
  return sizeof *this + functions_.capacity() * sizeof(Function) + names_.capacity() +
         segments_.capacity() * sizeof(Segment);
}

}  // namespace weir::daemon
