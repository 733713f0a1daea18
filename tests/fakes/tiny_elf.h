#pragma once
// TinyElf: the bytes of a small well-formed ELF file with the functions a test wants.

#include <elf.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/bytes.h"

namespace weir {

struct TinyElf {
  struct Symbol {
    std::string name = {};
    uint64_t address = 0;
    uint64_t size = 0;
    uint8_t type = STT_FUNC;
    uint8_t binding = STB_GLOBAL;
  };

  std::vector<Symbol> symbols = {};          // .symtab; none: no such section
  std::vector<Symbol> dynamic_symbols = {};  // .dynsym
  Bytes build_id = {};
  // One executable segment: `code_size` bytes at file offset 0x1000 and address 0x401000.
  uint64_t code_size = 0x1000;

  [[nodiscard]] Bytes bytes() const {
    ByteWriter body;  // everything behind the file header
    std::vector<Elf64_Shdr> sections(2);
    sections[1].sh_type = SHT_PROGBITS;  // code, named by the symbols' st_shndx
    sections[1].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
    Elf64_Phdr segments[2] = {};
    segments[0].p_type = PT_LOAD;
    segments[0].p_flags = PF_R | PF_X;
    segments[0].p_offset = 0x1000;
    segments[0].p_vaddr = 0x401000;
    segments[0].p_filesz = segments[0].p_memsz = code_size;

    const uint64_t segments_at = sizeof(Elf64_Ehdr);
    uint64_t at = segments_at + sizeof segments;
    if (!build_id.empty()) {
      ByteWriter note;
      note.put(Elf64_Nhdr{4, static_cast<Elf64_Word>(build_id.size()), NT_GNU_BUILD_ID});
      note.append(as_bytes(std::string_view("GNU\0", 4)));
      note.append(build_id);
      while (note.size() % 4 != 0) note.put(uint8_t{0});
      segments[1].p_type = PT_NOTE;
      segments[1].p_offset = at;
      segments[1].p_filesz = note.size();
      body.append(note.bytes());
      at += note.size();
    }
    const auto add_table = [&](const std::vector<Symbol>& wanted, Elf64_Word type) {
      if (wanted.empty()) return;
      std::string names(1, '\0');
      ByteWriter table;
      table.put(Elf64_Sym{});
      for (const auto& symbol : wanted) {
        Elf64_Sym raw = {};
        raw.st_name = static_cast<Elf64_Word>(names.size());
        raw.st_info = static_cast<unsigned char>((symbol.binding << 4) | symbol.type);
        raw.st_shndx = 1;
        raw.st_value = symbol.address;
        raw.st_size = symbol.size;
        table.put(raw);
        names += symbol.name;
        names += '\0';
      }
      Elf64_Shdr section = {};
      section.sh_type = type;
      section.sh_offset = at;
      section.sh_size = table.size();
      section.sh_entsize = sizeof(Elf64_Sym);
      section.sh_link = static_cast<Elf64_Word>(sections.size() + 1);
      sections.push_back(section);
      body.append(table.bytes());
      at += table.size();
      Elf64_Shdr strings = {};
      strings.sh_type = SHT_STRTAB;
      strings.sh_offset = at;
      strings.sh_size = names.size();
      sections.push_back(strings);
      body.append(as_bytes(names));
      at += names.size();
    };
    add_table(dynamic_symbols, SHT_DYNSYM);
    add_table(symbols, SHT_SYMTAB);

    Elf64_Ehdr header = {};
    header.e_ident[EI_MAG0] = ELFMAG0;
    header.e_ident[EI_MAG1] = ELFMAG1;
    header.e_ident[EI_MAG2] = ELFMAG2;
    header.e_ident[EI_MAG3] = ELFMAG3;
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_phoff = segments_at;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    header.e_shoff = at;
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = static_cast<Elf64_Half>(sections.size());

    ByteWriter file;
    file.put(header);
    file.append(std::as_bytes(std::span(segments)));
    file.append(body.bytes());
    file.append(std::as_bytes(std::span(sections)));
    return std::move(file).take();
  }
};

}  // namespace weir
