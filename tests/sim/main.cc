// weir_sim: runs seeds of the simulator (docs/testing.md).

#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>

#include "common/log.h"
#include "tests/sim/world.h"

namespace {

using weir::sim::Fault;
using weir::sim::Options;
using weir::sim::Outcome;

constexpr const char* kUsage =
    "usage: weir_sim [--seed S] [--seeds N] [--edges E] [--regions R] [--aggregators A]\n"
    "                [--minutes M] [--window SECONDS] [--coarse] [--faults all|none|NAME,NAME...]\n"
    "                [--pinned FILE] [--verbose all|PROCESS] [--trace] [--expect-violations]\n"
    "                [--seconds N]\n"
    "Each seed is one world: edges, regions of aggregators, a global tier, faults, then peace. It\n"
    "fails unless every batch is merged exactly once, or accounted for as lost.\n";

struct Arguments {
  uint64_t seed = 1;
  uint64_t seeds = 1;
  uint64_t seconds = 0;  // 0: all seeds, however long it takes
  std::string pinned;
  bool trace = false;
  bool expect_violations = false;
  Options options;
  std::string repeated;  // what else a command to run one of the seeds needs
};

bool parse_number(std::string_view text, uint64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

bool parse_faults(std::string_view text, Options& options) {
  if (text == "none") return true;
  options.all_faults = text != "all";
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    bool known = false;
    for (const auto& [fault, name] : weir::sim::fault_names()) {
      if (word != "all" && word != name) continue;
      options.faults.insert(fault);
      known = true;
    }
    if (!known) return false;
  }
  return true;
}

bool parse(const std::vector<std::string_view>& words, Arguments& out) {
  bool has_faults = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view name = words[i];
    if (name == "--coarse") {
      out.options.coarse = true;
      out.repeated += " --coarse";
      continue;
    }
    if (name == "--trace" || name == "--expect-violations") {
      (name == "--trace" ? out.trace : out.expect_violations) = true;
      continue;
    }
    if (++i == words.size()) return false;
    const std::string_view value = words[i];
    if (name == "--pinned") {
      out.pinned = value;
      continue;
    }
    if (name == "--verbose") {
      out.options.verbose = value;
      continue;
    }
    if (name == "--faults") {
      if (!parse_faults(value, out.options)) return false;
      has_faults = true;
      out.repeated += fmt::format(" --faults {}", value);
      continue;
    }
    uint64_t number = 0;
    if (!parse_number(value, number)) return false;
    if (name == "--seed") {
      out.seed = number;
    } else if (name == "--seeds") {
      out.seeds = number;
    } else if (name == "--seconds") {
      out.seconds = number;
    } else {
      if (number > 100'000) return false;
      const auto small = static_cast<unsigned>(number);
      if (name == "--edges") {
        out.options.edges = small;
      } else if (name == "--regions") {
        out.options.regions = small;
      } else if (name == "--aggregators") {
        out.options.aggregators = small;
      } else if (name == "--minutes") {
        out.options.minutes = small;
      } else if (name == "--window") {
        out.options.window_s = small;
      } else {
        return false;
      }
      out.repeated += fmt::format(" {} {}", name, value);
    }
  }
  return has_faults || parse_faults("all", out.options);
}

struct Sums {
  uint64_t seeds = 0, failed = 0, batches = 0, messages = 0, faults = 0, crashes = 0, vanished = 0;
  uint64_t damaged = 0, lost_mass = 0, mass = 0, trace = 0;
  double simulated_s = 0;
};

void run_seed(uint64_t seed, const Arguments& arguments, Sums& sums) {
  const auto scenario = weir::sim::make_scenario(seed, arguments.options);
  const Outcome outcome = weir::sim::World(scenario, arguments.options).run();
  ++sums.seeds;
  sums.batches += outcome.batches;
  sums.messages += outcome.messages;
  sums.faults += outcome.faults;
  sums.crashes += outcome.crashes;
  sums.vanished += outcome.vanished;
  sums.damaged += outcome.damaged;
  sums.lost_mass += outcome.lost_mass;
  sums.mass += outcome.mass;
  sums.trace = sums.trace * 31 + outcome.trace;
  sums.simulated_s += std::chrono::duration<double>(outcome.simulated).count();
  if (arguments.trace) fmt::print("seed {} trace {:016x}\n", seed, outcome.trace);
  if (outcome.violations.empty()) return;
  ++sums.failed;
  fmt::print("FAILED: weir_sim --seed {}{}\n", seed, arguments.repeated);
  for (const auto& sentence : outcome.violations) fmt::print("  {}\n", sentence);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!parse({argv + 1, argv + argc}, arguments)) {
    std::cerr << kUsage;
    return 2;
  }
  if (arguments.options.verbose.empty()) weir::log::set_level(weir::log::Level::kOff);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a failed seed shows at once
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  Sums sums;
  if (!arguments.pinned.empty()) {
    std::ifstream file(arguments.pinned);
    if (!file) {
      std::cerr << "cannot read " << arguments.pinned << "\n";
      return 2;
    }
    // A line holds what `FAILED: weir_sim` printed; from # on, what it found.
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line.substr(0, line.find('#')));
      const std::vector<std::string> held{std::istream_iterator<std::string>(words), {}};
      if (held.empty()) continue;
      Arguments pinned;
      if (!parse({held.begin(), held.end()}, pinned)) {
        std::cerr << arguments.pinned << ": cannot read: " << line << "\n";
        return 2;
      }
      run_seed(pinned.seed, pinned, sums);
    }
  }
  for (uint64_t i = 0; i < arguments.seeds; ++i) {
    if (arguments.seconds > 0 && elapsed() > static_cast<double>(arguments.seconds)) break;
    run_seed(arguments.seed + i, arguments, sums);
    if (arguments.expect_violations && sums.failed > 0) break;
  }
  fmt::print(
      "{} seeds, {} failed; {} batches, {} messages, {} damaged, {} faults, {} deaths at crash "
      "points, {} batches gone with a disk, {:.2f} % of the mass lost and accounted for; {:.1f} h "
      "simulated in {:.1f} s; trace {:016x}\n",
      sums.seeds, sums.failed, sums.batches, sums.messages, sums.damaged, sums.faults, sums.crashes,
      sums.vanished,
      sums.mass == 0 ? 0.0
                     : 100.0 * static_cast<double>(sums.lost_mass) / static_cast<double>(sums.mass),
      sums.simulated_s / 3600, elapsed(), sums.trace);
  return (sums.failed > 0) == arguments.expect_violations ? 0 : 1;
}
