// ELF files come from whoever may run a program on the host.

#include "daemon/profiler/elf_symbols.h"

#include <cstddef>
#include <cstdint>
#include <span>

#include "daemon/profiler/demangle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weir::daemon;
  const ElfInput input(std::as_bytes(std::span(data, size)));
  const auto symbols = ElfSymbols::parse(input);
  if (!symbols.ok()) return 0;
  for (uint64_t offset = 0; offset < 0x3000; offset += 0x10) {
    const auto address = symbols->address_of(offset);
    const auto name = symbols->name_at(address.value_or(offset));
    if (name && demangle(*name).size() > kMaxNameBytes) __builtin_trap();
  }
  return 0;
}
