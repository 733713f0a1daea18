#pragma once
// Report: how every bench prints. Figures are medians; a readable table with the limit or peer
// beside each figure, or with --json one flat object whose keys are those of docs/figures.md.
//
//   int main(int argc, char** argv) {
//     weir::bench::Report report("sketch", argc, argv);
//     const auto [add, bare] = weir::bench::interleaved(report.rounds(), run_add, run_bare);
//     report.figure("insert_hot_ns", weir::bench::median(add), "ns");
//     report.figure("insert_hot_vs_limit", weir::bench::median_ratio(add, bare), "x", "<= 7");
//     report.missing("hll_insert_ns", "distinct counts do not exist yet");
//     return report.print();
//   }
//
// A figure that could not be taken is null with NAME_why beside it, never a guess.

#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"

namespace weir::bench {

// Keeps the compiler from proving that a result is unused.
template <class T>
void keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");  // NOLINT
}

inline int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

inline double median(std::vector<double> values) {
  WEIR_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Of two things measured side by side: the median of the rounds' ratios.
inline double median_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  WEIR_CHECK(a.size() == b.size());
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return median(std::move(ratios));
}

// Runs every f once a round, in turn, so that noise meets all alike; each returns its figure.
// The first round warms up and is dropped.
template <class... F>
std::array<std::vector<double>, sizeof...(F)> interleaved(int rounds, F&&... f) {
  std::array<std::vector<double>, sizeof...(F)> out;
  for (int round = 0; round <= rounds; ++round) {
    size_t i = 0;
    const auto keep_figure = [&](double figure) {
      if (round > 0) out[i].push_back(figure);
      ++i;
    };
    (keep_figure(f()), ...);
  }
  return out;
}

// CPU time of this thread: what pure computation costs, whoever else uses the machine.
inline int64_t cpu_ns() {
  timespec time{};
  WEIR_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// CPU nanoseconds per operation of one call of f, which does `operations` of them; some 100 us of
// them, so that reading the clock does not count. Work that waits is timed with now_ns() instead.
template <class F>
double ns_per(size_t operations, F&& f) {
  const int64_t start = cpu_ns();
  f();
  return static_cast<double>(cpu_ns() - start) / static_cast<double>(operations);
}

class Report {
 public:
  Report(std::string name, int argc, char** argv) : name_(std::move(name)) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      if (argument == "--json") {
        json_ = true;
      } else if (argument == "--quick") {
        quick_ = true;
      } else {
        std::fprintf(stderr, "usage: %s [--json] [--quick]\n", argv[0]);
        std::exit(2);
      }
    }
  }

  [[nodiscard]] bool quick() const { return quick_; }

  [[nodiscard]] int rounds() const { return quick_ ? 7 : 31; }

  // `limit` is what stands beside the figure in the table: a target, a peer or a bound.
  void figure(std::string key, double value, std::string unit, std::string limit = "") {
    lines_.push_back({std::move(key), value, std::move(unit), std::move(limit), ""});
  }

  void missing(std::string key, std::string why) {
    lines_.push_back({std::move(key), 0, "", "", std::move(why)});
  }

  [[nodiscard]] int print() const {
    if (json_) {
      print_json();
    } else {
      print_table();
    }
    return 0;
  }

 private:
  struct Line {
    std::string key;
    double value = 0;
    std::string unit;
    std::string limit;
    std::string why;  // not empty: no figure
  };

  void print_table() const {
    std::printf("%s (medians%s)\n", name_.c_str(), quick_ ? ", quick" : "");
    for (const Line& line : lines_) {
      if (line.why.empty()) {
        std::printf("  %-32s %14.6g %-10s %s\n", line.key.c_str(), line.value, line.unit.c_str(),
                    line.limit.c_str());
      } else {
        std::printf("  %-32s %14s %-10s %s\n", line.key.c_str(), "-", "", line.why.c_str());
      }
    }
  }

  void print_json() const {
    std::printf("{\"bench\": \"%s\"", name_.c_str());
    for (const Line& line : lines_) {
      if (line.why.empty()) {
        std::printf(",\n \"%s\": %.9g", line.key.c_str(), line.value);
      } else {
        std::printf(",\n \"%s\": null,\n \"%s_why\": \"%s\"", line.key.c_str(), line.key.c_str(),
                    escaped(line.why).c_str());
      }
    }
    std::printf("}\n");
  }

  static std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return out;
  }

  std::string name_;
  bool json_ = false;
  bool quick_ = false;
  std::vector<Line> lines_;
};

}  // namespace weir::bench
