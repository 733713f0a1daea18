#pragma once
// ProfileSource: where the CPU time of this host goes, as stack tries per service (metric `cpu`).
//
// Owner: the edge. Thread: the loop; symbolizing runs on the shared worker. Promise: a sample lands
// in the window of its own time; every sample is in a profile or in `lost`; start() leaves nothing
// half attached. Bounded: the kernel ring, one batch being filled, kMaxInFlight batches on their
// way. Cost: one wake-up per new process and one per drain, none per sample.
//
// Losses nobody can attribute (a full ring, a full batch) are the quality of the series with
// service="__lost__", which has no samples. Kernel threads are service "kernel".

#include <cstdint>
#include <memory>

#include "daemon/service_names.h"
#include "daemon/source.h"

namespace weir::daemon {

struct ProfileConfig {
  bool enabled = true;
  uint32_t hz = 19;  // 1..999

  friend bool operator==(const ProfileConfig&, const ProfileConfig&) = default;
};

inline constexpr uint32_t kMinProfileHz = 1;
inline constexpr uint32_t kMaxProfileHz = 999;

class ProfileSource final : public Source {
 public:
  ProfileSource(const ProfileConfig& config, ServiceNames& services);
  ~ProfileSource() override;
  ProfileSource(const ProfileSource&) = delete;
  ProfileSource& operator=(const ProfileSource&) = delete;

  void start(SourceContext context) override;
  void drain(UnixTime now, Drain drain) override;
  void stop() override;
  [[nodiscard]] SourceStatus status() const override;

  [[nodiscard]] uint64_t symbol_bytes() const;  // memory of the symbol tables of mapped files

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir::daemon
