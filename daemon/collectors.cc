#include "daemon/collectors.h"

#include <string>
#include <utility>

namespace weir::daemon {
namespace {

#ifdef WEIR_BPF
constexpr bool kHasKernelPrograms = true;
#else
constexpr bool kHasKernelPrograms = false;
#endif

class AbsentSource final : public Source {
 public:
  explicit AbsentSource(std::string name) : name_(std::move(name)) {}

  void start(SourceContext) override {}

  void drain(UnixTime, Drain) override {}

  void stop() override {}

  [[nodiscard]] SourceStatus status() const override {
    return {.name = name_,
            .state = SourceState::kUnavailable,
            .reason = "this build has no kernel programs",
            .fix = "build with -DWEIR_BPF=ON",
            .counters = {}};
  }

 private:
  std::string name_;
};

template <class T, class Config>
std::unique_ptr<Source> kernel_source(const char* name, const Config& config,
                                      ServiceNames& services) {
  if constexpr (kHasKernelPrograms) {
    return std::make_unique<T>(config, services);
  } else {
    return std::make_unique<AbsentSource>(name);
  }
}

}  // namespace

std::vector<std::unique_ptr<Source>> make_sources(const DaemonConfig& config,
                                                  ServiceNames& services,
                                                  std::vector<Fd> inherited) {
  std::vector<std::unique_ptr<Source>> sources;
  // First: applications push from the start, and loading kernel programs takes a while.
  if (config.statsd.enabled) {
    sources.push_back(std::make_unique<StatsdSource>(config.statsd, std::move(inherited)));
  }
  if (config.requests.enabled) {
    sources.push_back(kernel_source<RequestSource>("requests", config.requests, services));
  }
  if (config.profile.enabled) {
    sources.push_back(kernel_source<ProfileSource>("profile", config.profile, services));
  }
  return sources;
}

}  // namespace weir::daemon
