// Burns CPU in three functions of known shares: 60, 30 and 10 percent of the work, interleaved.
//   burner SECONDS      that much CPU time, then prints "cpu_ns N" from getrusage
// Built so that every function, leaves included, keeps a frame pointer.

#include <sys/resource.h>
#include <sys/time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

volatile uint64_t sink;

// One unit of work: some 100 us of a chain of multiplications.
constexpr int kSteps = 50'000;

uint64_t cpu_ns() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto ns = [](const timeval& t) {
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 +
           static_cast<uint64_t>(t.tv_usec) * 1000;
  };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

}  // namespace

// The same loop three times, written out: a shared helper would be one function in the profile.
#define WEIR_BURN(name, units)                                                  \
  extern "C" __attribute__((noinline)) void name() {                            \
    uint64_t x = sink | 1;                                                      \
    for (int i = 0; i < (units)*kSteps; ++i) x = x * 6364136223846793005U + 1U; \
    sink = x;                                                                   \
  }

WEIR_BURN(burn_sixty, 6)
WEIR_BURN(burn_thirty, 3)
WEIR_BURN(burn_ten, 1)

int main(int argc, char** argv) {
  const double seconds = argc == 2 ? std::strtod(argv[1], nullptr) : 0;
  if (seconds <= 0 || seconds > 3600) {
    std::fprintf(stderr, "usage: %s SECONDS\n", argv[0]);
    return 2;
  }
  const auto budget = static_cast<uint64_t>(seconds * 1e9);
  while (cpu_ns() < budget) {
    for (int round = 0; round < 10; ++round) {
      burn_sixty();
      burn_thirty();
      burn_ten();
    }
  }
  std::printf("cpu_ns %llu\n", static_cast<unsigned long long>(cpu_ns()));
  return 0;
}
