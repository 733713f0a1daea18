#include "daemon/profiler/stack_sample.h"

#include <chrono>
#include <cstring>
#include <span>
#include <utility>

#include "common/clock.h"
#include "common/hash.h"

namespace weir::daemon {
namespace {

constexpr size_t kHeadBytes = WEIR_PROFILE_HEAD_BYTES;

uint64_t hash_of(const StackSample& sample) {
  uint64_t hash = hash64(std::as_bytes(std::span(sample.kernel)), process_seed());
  hash = hash64(std::as_bytes(std::span(sample.user)), hash);
  hash = hash64(sample.image.pid, hash);
  return hash64(static_cast<uint64_t>(sample.unix_s), hash);
}

bool same_stack(const StackSample& a, const StackSample& b) {
  return a.image == b.image && a.unix_s == b.unix_s && a.cgroup_id == b.cgroup_id &&
         a.comm == b.comm && a.kernel_thread == b.kernel_thread && a.stop == b.stop &&
         a.kernel == b.kernel && a.user == b.user;
}

}  // namespace

std::optional<StackSample> decode_record(ByteView record, int64_t mono_to_unix_ns) {
  weir_profile_record head = {};
  if (record.size() < kHeadBytes) return std::nullopt;
  std::memcpy(&head, record.data(), kHeadBytes);
  const ByteView pcs = record.subspan(kHeadBytes);
  if (head.kernel_n > WEIR_PROFILE_MAX_FRAMES || head.user_n > WEIR_PROFILE_MAX_FRAMES ||
      pcs.size() != (size_t{head.kernel_n} + head.user_n) * sizeof(uint64_t)) {
    return std::nullopt;
  }
  StackSample out;
  out.image = {head.pid, head.start_ns, head.exec_id};
  out.cgroup_id = head.cgroup_id;
  const UnixTime when{
      std::chrono::nanoseconds(static_cast<int64_t>(head.time_ns) + mono_to_unix_ns)};
  out.unix_s = unix_seconds(when);
  out.comm = {head.comm, ::strnlen(head.comm, sizeof head.comm)};
  out.kernel_thread = head.kernel_thread != 0;
  out.stop = head.stop;
  out.ns = head.period_ns;
  out.samples = 1;
  out.kernel.resize(head.kernel_n);
  out.user.resize(head.user_n);
  const size_t kernel_bytes = head.kernel_n * sizeof(uint64_t);
  if (kernel_bytes != 0) std::memcpy(out.kernel.data(), pcs.data(), kernel_bytes);
  if (head.user_n != 0) {
    std::memcpy(out.user.data(), pcs.data() + kernel_bytes, head.user_n * sizeof(uint64_t));
  }
  return out;
}

bool StackBatch::add(StackSample sample) {
  const uint64_t hash = hash_of(sample);
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto at = first; at != last; ++at) {
    StackSample& known = stacks_[at->second];
    if (!same_stack(known, sample)) continue;
    known.ns += sample.ns;
    known.samples += sample.samples;
    samples_ += sample.samples;
    return true;
  }
  const size_t pcs = sample.kernel.size() + sample.user.size();
  if (stacks_.size() >= kMaxStacks || pcs_ + pcs > kMaxPcs) return false;
  pcs_ += pcs;
  samples_ += sample.samples;
  by_hash_.emplace(hash, stacks_.size());
  stacks_.push_back(std::move(sample));
  return true;
}

std::vector<StackSample> StackBatch::take() {
  by_hash_.clear();
  pcs_ = 0;
  samples_ = 0;
  return std::exchange(stacks_, {});
}

}  // namespace weir::daemon
