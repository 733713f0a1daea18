#pragma once
// StackSample: one sampled stack as numbers, before it has names; StackBatch: equal ones added up.
// Pure.
//
// Owner: the ProfileSource; built on the loop thread, handed to the worker whole. Promise: equal
// stacks of one process image in one second become one entry; nothing is dropped without being
// counted. Bounded: kMaxStacks and kMaxPcs per batch. Cost: one hash of the stack per sample.

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bpf/profile.h"
#include "common/bytes.h"
#include "daemon/profiler/process_maps.h"

namespace weir::daemon {

struct StackSample {
  ProcessImage image;
  uint64_t cgroup_id = 0;
  int64_t unix_s = 0;  // when, to the second: windows are whole seconds
  std::string comm;    // raw, as the process calls itself
  bool kernel_thread = false;
  uint8_t stop = WEIR_PROFILE_STOP_UNKNOWN;  // weir_profile_stop
  std::vector<uint64_t> kernel;              // leaf first
  std::vector<uint64_t> user;
  uint64_t ns = 0;  // CPU time of all samples
  uint64_t samples = 0;
  std::string service;
};

// nullopt: not a record of ours. `mono_to_unix_ns` turns the kernel's clock into Unix time.
[[nodiscard]] std::optional<StackSample> decode_record(ByteView record, int64_t mono_to_unix_ns);

class StackBatch {
 public:
  static constexpr size_t kMaxStacks = 16'384;
  static constexpr size_t kMaxPcs = size_t{1} << 20;  // 8 MiB

  // False when the batch is full: the sample is the caller's to count.
  [[nodiscard]] bool add(StackSample sample);

  [[nodiscard]] bool empty() const { return stacks_.empty(); }

  [[nodiscard]] uint64_t samples() const { return samples_; }

  // In order of first arrival; the batch is empty afterwards.
  [[nodiscard]] std::vector<StackSample> take();

 private:
  std::vector<StackSample> stacks_;
  std::unordered_multimap<uint64_t, size_t> by_hash_;
  size_t pcs_ = 0;
  uint64_t samples_ = 0;
};

}  // namespace weir::daemon
