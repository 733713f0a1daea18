#pragma once
// ProfileProbe: bpf/profile.bpf.c loaded, and attached to a clock on every online CPU.
//
// Owner: the ProfileSource; loop thread. Promise: open() attaches everywhere or nowhere; the
// destructor detaches. Bounded: the ring (ring_bytes). Cost: consume() copies nothing itself.

#include <cstdint>
#include <functional>
#include <memory>

#include "common/bytes.h"
#include "daemon/bpf_support.h"

namespace weir::daemon {

class ProfileProbe {
 public:
  using OnRecord = std::function<void(ByteView)>;

  // nullptr, and `why` filled, when the kernel says no.
  static std::unique_ptr<ProfileProbe> open(uint32_t hz, OnRecord on_record, Obstacle& why);
  ~ProfileProbe();
  ProfileProbe(const ProfileProbe&) = delete;
  ProfileProbe& operator=(const ProfileProbe&) = delete;

  // Readable when a record should be looked at soon (a new process, or a ring half full).
  [[nodiscard]] int fd() const;

  // Hands every record in the ring to on_record; a view is good during the call.
  void consume();

  // No more samples; what is in the ring stays to be consumed.
  void detach();

  // Attaches to CPUs that came online since and lets go of those that went.
  void follow_cpus();

  struct Counters {
    uint64_t samples = 0;
    uint64_t lost = 0;  // the ring was full
  };

  [[nodiscard]] Counters counters() const;
  [[nodiscard]] size_t cpus() const;

 private:
  struct State;
  explicit ProfileProbe(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::daemon
