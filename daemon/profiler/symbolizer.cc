#include "daemon/profiler/symbolizer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace weir::daemon {
namespace {

// Modules and BPF programs come and go; reading the table takes tens of milliseconds.
constexpr int64_t kKernelTableLifeS = 600;

// Return addresses point behind the call, which may be the next function already.
uint64_t call_site(uint64_t pc, size_t depth) { return depth == 0 ? pc : pc - 1; }

Frame special(std::string name) { return {FrameKind::kSpecial, "", std::move(name)}; }

}  // namespace

std::string kernel_thread_name(std::string_view comm) {
  return clean_name(comm.substr(0, comm.find_first_of("/:")));
}

Symbolizer::Symbolizer(ObjectCache::Options options)
    : proc_root_(options.proc_root), maps_(options.proc_root), objects_(std::move(options)) {}

Symbolizer::Quality Symbolizer::symbolize(const StackSample& sample, std::vector<Frame>& frames) {
  frames.clear();
  frames.push_back(
      {FrameKind::kUser, "",
       sample.kernel_thread ? kernel_thread_name(sample.comm) : clean_name(sample.comm)});
  Quality quality;
  if (!sample.kernel_thread) quality = add_user_frames(sample, frames);
  if (!sample.kernel.empty()) {
    refresh_kernel(sample.unix_s);
    bool named = true;
    for (size_t depth = sample.kernel.size(); depth-- > 0;) {
      frames.push_back(kernel_frame(call_site(sample.kernel[depth], depth), named));
    }
    quality.unresolved = !named;  // of the last one, the leaf
  }
  return quality;
}

Symbolizer::Quality Symbolizer::add_user_frames(const StackSample& sample,
                                                std::vector<Frame>& frames) {
  if (sample.user.empty()) {
    frames.push_back(special("[truncated:no_user_stack]"));
    return {.truncated = true, .unresolved = true};
  }
  if (maps_.load(sample.image, sample.unix_s) != ProcessMaps::Loaded::kYes) {
    frames.push_back(special("[truncated:no_mappings]"));
    return {.truncated = true, .unresolved = true};
  }
  const size_t first = frames.size();
  const bool too_deep = sample.stop == WEIR_PROFILE_STOP_DEPTH;
  Quality quality{.truncated = too_deep};
  if (too_deep) frames.push_back(special("[truncated:depth]"));
  for (size_t depth = sample.user.size(); depth-- > 0;) {
    Frame frame;
    bool named = false;
    if (user_frame(sample, call_site(sample.user[depth], depth), frame, named)) {
      frames.push_back(std::move(frame));
      quality.unresolved = !named;
      continue;
    }
    // The chain ran through a word that is no code: what lies towards the root is noise.
    frames.resize(first);
    frames.push_back(special("[truncated:unmapped]"));
    quality = {.truncated = true, .unresolved = true};
  }
  return quality;
}

bool Symbolizer::user_frame(const StackSample& sample, uint64_t pc, Frame& frame, bool& named) {
  Mapping* mapping = maps_.find(sample.image, pc, sample.unix_s);
  if (mapping == nullptr) return false;
  frame.kind = FrameKind::kUser;
  frame.module = mapping->module;
  const uint64_t offset = pc - mapping->start + mapping->file_offset;
  const ElfSymbols* symbols = objects_.symbols(sample.image.pid, *mapping);
  const uint64_t address =
      symbols != nullptr ? symbols->address_of(offset).value_or(offset) : offset;
  if (const auto name = symbols != nullptr ? symbols->name_at(address) : std::nullopt; name) {
    frame.name = names_.name(*name);
    named = true;
  } else if (mapping->inode == 0) {
    frame.name = mapping->module;  // generated code: its addresses mean nothing elsewhere
  } else {
    frame.name = fmt::format("{}+{:#x}", mapping->module, address);
  }
  return true;
}

// Without names only the low 21 bits are shown: they are the same at every boot, and the others
// would tell where the kernel lies.
Frame Symbolizer::kernel_frame(uint64_t pc, bool& named) {
  const auto symbol = kernel_ ? kernel_->at(pc) : std::nullopt;
  named = symbol.has_value();
  if (!symbol) {
    return {FrameKind::kKernel, "[kernel]", fmt::format("[kernel]+{:#x}", pc & 0x1fffff)};
  }
  return {FrameKind::kKernel, clean_name(symbol->module), clean_name(symbol->name)};
}

void Symbolizer::refresh_kernel(int64_t now_s) {
  if (kernel_read_at_s_ && now_s - *kernel_read_at_s_ < kKernelTableLifeS) return;
  kernel_read_at_s_ = now_s;
  auto loaded = Kallsyms::load(proc_root_ + "/kallsyms");
  if (loaded) {
    kernel_ = *std::move(loaded);
  } else {
    kernel_.reset();
  }
}

Symbolizer::Health Symbolizer::health() const {
  return {.kernel_names = kernel_.has_value() || !kernel_read_at_s_,
          .processes_denied = maps_.denied(),
          .processes_gone = maps_.gone(),
          .files_unreadable = objects_.unreadable(),
          .table_bytes = objects_.memory_bytes()};
}

}  // namespace weir::daemon
