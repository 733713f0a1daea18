#include "tests/sim/world.h"

#include <utility>

#include <fmt/core.h>

#include "aggregator/store/reader.h"
#include "common/check.h"
#include "common/control.h"
#include "common/own_metrics.h"

namespace weir::sim {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

constexpr const char* kGlobal = "global";
constexpr Nanos kDrainLook = seconds(20);
constexpr Nanos kDrainLimit = hours(4);

std::string aggregator_name(unsigned region, unsigned i) {
  return fmt::format("r{}{}", region + 1, static_cast<char>('a' + i));
}

std::string endpoint_of(const std::string& tier) { return "sim://" + tier; }

const std::vector<const char*>& crash_points(bool is_edge, bool is_global) {
  static const std::vector<const char*> kEdge{
      "edge.commit_before",  "edge.commit_after",  "edge.assign_before",   "edge.assign_after",
      "edge.trim_before",    "edge.trim_after",    "edge.included_before", "edge.included_after",
      "db.tombstone_before", "db.tombstone_after", "edge.send_after"};
  static const std::vector<const char*> kRegion{
      "region.drain_before", "region.drain_after", "region.fold_before",  "region.fold_after",
      "region.done_before",  "region.done_after",  "region.fence_before", "region.fence_after",
      "region.ack_before",   "region.ack_after",   "region.out_after"};
  static const std::vector<const char*> kGlobalPoints{
      "global.drain_before", "global.drain_after", "global.fold_before", "global.fold_after",
      "global.fence_before", "global.fence_after", "global.ack_before",  "global.ack_after"};
  return is_edge ? kEdge : is_global ? kGlobalPoints : kRegion;
}

}  // namespace

World::World(const Scenario& scenario, const Options& options)
    : scenario_(scenario),
      options_(options),
      random_(scenario.seed * 7919 + 3),
      network_(scheduler_, scenario.seed * 104'729 + 5) {
  build();
}

World::~World() = default;

void World::say(const std::string& process, const std::string& what) {
  if (options_.verbose != "all" && options_.verbose != process) return;
  fmt::print("{:10.3f}s {:8} {}\n", std::chrono::duration<double>(scheduler_.now()).count(),
             process, what);
}

void World::build() {
  const auto adopt = [this](Process& process) {
    process.on_fatal([this](const std::string& name, const Error& error) {
      say(name, "ends: " + error.message);
      oracle_.violation(name + " ended: " + error.message);
    });
  };
  const auto add_tier = [&](TierConfig config) -> SimTier& {
    config.endpoint = endpoint_of(config.tier.name);
    if (scenario_.fold_by_window) config.tier.flush_every = milliseconds(0);
    config.store_tick = scenario_.store_tick;
    config.ping_every = scenario_.ping_every;
    config.fence_after = scenario_.fence_after;
    config.seed = random_.next();
    const std::string name = config.tier.name;
    auto tier = std::make_unique<SimTier>(scheduler_, network_, std::move(config));
    adopt(*tier);
    return *tiers_.emplace(name, std::move(tier)).first->second;
  };
  TierConfig global;
  global.tier.kind = "global";
  global.tier.name = kGlobal;
  global.tier.in_s = scenario_.coarse_s;
  global.tier.out_s = 12 * scenario_.coarse_s;
  global.tier.drop_labels = {"src"};
  global.tier.keep_in_s = 30 * 86400;
  global_ = &add_tier(std::move(global));
  for (unsigned r = 0; r < scenario_.regions; ++r) {
    for (unsigned a = 0; a < scenario_.aggregators; ++a) {
      TierConfig region;
      region.tier.kind = "region";
      region.tier.name = aggregator_name(r, a);
      region.tier.in_s = scenario_.window_s;
      region.tier.out_s = scenario_.coarse_s;
      region.tier.drop_labels = {"host"};
      region.tier.add_labels = {{"region", fmt::format("r{}", r + 1)}};
      region.tier.upstream = endpoint_of(kGlobal);
      add_tier(std::move(region));
    }
  }
  for (unsigned e = 0; e < scenario_.edges; ++e) {
    EdgeConfig config;
    config.name = fmt::format("e{}", e + 1);
    config.window_s = scenario_.window_s;
    config.tick_every = scenario_.edge_tick;
    config.ping_every = scenario_.ping_every;
    config.fence_after = scenario_.fence_after;
    config.seed = random_.next();
    if (scenario_.has(Fault::kSmall)) config.outbox_bytes = random_.between(8'000, 40'000);
    for (unsigned a = 0; a < scenario_.aggregators; ++a) {
      config.upstreams.push_back(endpoint_of(aggregator_name(e % scenario_.regions, a)));
    }
    auto edge = std::make_unique<SimEdge>(scheduler_, network_, oracle_, std::move(config));
    adopt(*edge);
    edges_.emplace(edge->name(), std::move(edge));
  }
  network_.watch(
      [this](const std::string& process, ByteView header, ByteView body) {
        check_sent(process, header, body);
      },
      [this](const std::string& process) { return verdicts(process); },
      [this](const std::string& process, uint64_t counted) {
        oracle_.violation(fmt::format("{} counted a damaged message {} times", process, counted));
      });
}

std::optional<uint64_t> World::verdicts(const std::string& process) {
  if (const auto tier = tiers_.find(process); tier != tiers_.end()) return tier->second->verdicts();
  return edges_.at(process)->verdicts();
}

SimEdge* World::edge_of(Process& process) {
  const auto found = edges_.find(process.name());
  return found == edges_.end() ? nullptr : found->second.get();
}

Outcome World::run() {
  const auto faults_in = [&](Fault fault, uint64_t high) {
    return scenario_.has(fault) ? static_cast<unsigned>(random_.between(1, high)) : 0;
  };
  MessageFaults faults;
  faults.drop = faults_in(Fault::kDrop, 150);
  faults.duplicate = faults_in(Fault::kDuplicate, 150);
  faults.overtake = faults_in(Fault::kOvertake, 150);
  faults.damage = faults_in(Fault::kDamage, 50);
  if (scenario_.has(Fault::kDelay)) {
    faults.delay_max = random_.time(milliseconds(50), milliseconds(3000));
  }
  network_.set_faults(faults);
  for (auto& [name, tier] : tiers_) {
    tier->start();
    plan_faults(*tier);
  }
  for (auto& [name, edge] : edges_) {
    scheduler_.after(random_.time(Nanos(0), seconds(30)), [&edge = *edge] { edge.start(); });
    plan_batches(*edge);
    plan_faults(*edge);
  }
  if (scenario_.has(Fault::kRegionDown)) {
    for (unsigned r = 0; r < scenario_.regions; ++r) plan_region_down(r);
  }
  if (scenario_.has(Fault::kGone) && scenario_.aggregators > 1) {
    for (unsigned r = 0; r < scenario_.regions; ++r) plan_gone(r);
  }
  if (scenario_.has(Fault::kStranger)) plan_strangers();
  scheduler_.run_until(scenario_.duration);
  clean_up();
  if (!drain()) oracle_.violation("does not drain");
  bool came_back = false;
  for (auto& [name, tier] : tiers_) {
    if (!tier->is_away()) continue;
    came_back = true;
    if (random_.percent(30)) tier->disk().lose();
    say(name, "comes back");
    tier->come_back();
  }
  if (came_back) {
    scheduler_.run_until(scheduler_.now() + minutes(5));
    if (!drain()) oracle_.violation("does not drain with the aggregators that came back");
  }
  judge();

  Outcome out;
  out.violations = oracle_.violations();
  out.trace = network_.trace();
  out.batches = oracle_.batches();
  out.mass = oracle_.mass();
  out.lost_mass = oracle_.lost_mass();
  out.vanished = oracle_.vanished();
  out.messages = network_.delivered();
  out.damaged = network_.damaged();
  out.faults = faults_;
  for (const auto& [name, process] : edges_) out.crashes += process->crashes();
  for (const auto& [name, process] : tiers_) out.crashes += process->crashes();
  out.simulated = scheduler_.now();
  return out;
}

void World::plan_batches(SimEdge& edge) {
  const Nanos next = seconds(scenario_.window_s) + random_.time(milliseconds(-500), seconds(2));
  scheduler_.after(next, [this, &edge] {
    if (is_over()) return;
    plan_batches(edge);
    edge.push(0);
    if (random_.percent(5)) edge.push(static_cast<unsigned>(random_.between(1, 10)));
    if (!scenario_.has(Fault::kBurst) || !random_.percent(5)) return;
    for (int i = 0; i < 20; ++i) edge.push(static_cast<unsigned>(random_.below(10)));
  });
}

void World::plan_faults(Process& process) {
  scheduler_.after(random_.time(scenario_.fault_min, scenario_.fault_max), [this, &process] {
    if (is_over()) return;
    fault(process);
    plan_faults(process);
  });
}

// One of the faults that can happen to this process now.
void World::fault(Process& process) {
  std::vector<Fault> able;
  SimEdge* const edge = edge_of(process);
  const bool is_global = &process == global_;
  for (const Fault fault : scenario_.faults) {
    switch (fault) {
      case Fault::kCrash:
      case Fault::kPoint:
      case Fault::kPause:
        able.push_back(fault);
        break;
      case Fault::kCut:
        if (!is_global) able.push_back(fault);
        break;
      case Fault::kEdgeDisk:
        if (edge != nullptr) able.push_back(fault);
        break;
      case Fault::kRegionDisk:
        if (edge == nullptr && !is_global) able.push_back(fault);
        break;
      case Fault::kFlip:
        if (!is_global) able.push_back(fault);
        break;
      case Fault::kClock:
        able.push_back(fault);
        break;
      case Fault::kDrop:
      case Fault::kDuplicate:
      case Fault::kOvertake:
      case Fault::kDamage:
      case Fault::kDelay:
      case Fault::kBurst:
      case Fault::kStranger:
      case Fault::kSmall:
      case Fault::kRegionDown:
      case Fault::kGone:
        break;  // of the whole world
    }
  }
  if (able.empty()) return;
  const Fault chosen = able[random_.below(able.size())];
  const Nanos length = a_while();
  ++faults_;
  const auto start_again = [this, &process, length] {
    scheduler_.after(length, [&process] { process.start(); });
  };
  switch (chosen) {
    case Fault::kCrash:
      say(process.name(), "kill -9");
      process.kill();
      start_again();
      return;
    case Fault::kPoint: {
      const auto& points = crash_points(edge != nullptr, is_global);
      const CrashPlan plan{points[random_.below(points.size())], random_.between(1, 5)};
      say(process.name(), fmt::format("is to die at {}:{}", plan.point, plan.passage));
      process.crash_at(plan);
      start_again();
      return;
    }
    case Fault::kPause: {
      say(process.name(), "stands still");
      process.pause();
      const Nanos how_long = random_.percent(20) ? scenario_.fence_after + length : length;
      scheduler_.after(how_long, [this, &process] {
        say(process.name(), "goes on");
        process.resume();
      });
      return;
    }
    case Fault::kCut: {
      std::vector<std::string> uppers;
      for (const auto& [name, tier] : tiers_) {
        if (edge != nullptr ? tier.get() != global_ : tier.get() == global_) uppers.push_back(name);
      }
      const std::string upper = uppers[random_.below(uppers.size())];
      if (random_.percent(25)) {
        say(process.name(), "is reset");
        return network_.reset(process.name());
      }
      const auto cut = static_cast<Cut>(random_.between(1, 3));
      say(process.name(), fmt::format("is cut from {} ({})", upper, static_cast<int>(cut)));
      network_.cut(process.name(), upper, cut);
      scheduler_.after(length, [this, lower = process.name(), upper] {
        network_.cut(lower, upper, Cut::kNone);
      });
      return;
    }
    case Fault::kEdgeDisk:
    case Fault::kRegionDisk: {
      if (random_.percent(60)) {
        process.disk().copy();
        return;
      }
      process.kill();
      scheduler_.after(milliseconds(1), [this, &process, edge] {
        if (process.is_running()) return;
        const bool is_old = process.disk().has_copy() && random_.percent(60);
        say(process.name(), is_old ? "has an old disk" : "has a new disk");
        if (edge != nullptr) {
          is_old ? edge->restore_copy() : edge->lose_disk();
        } else {
          is_old ? process.disk().restore() : process.disk().lose();
        }
      });
      start_again();
      return;
    }
    case Fault::kClock: {
      const std::array<Nanos, 8> steps{hours(1),   hours(-1),   hours(24),  hours(-24),
                                       hours(120), hours(-120), seconds(5), seconds(-90)};
      const Nanos step = steps[random_.below(steps.size())];
      say(process.name(), fmt::format("clock steps by {} s", step.count() / 1'000'000'000));
      process.clock().step(step);
      scheduler_.after(length, [&process, step] { process.clock().step(-step); });
      return;
    }
    case Fault::kFlip:
      say(process.name(), "a bit flips");
      flip_outbox_bit(process.disk().committed(), random_.next());
      return;
    case Fault::kDrop:
    case Fault::kDuplicate:
    case Fault::kOvertake:
    case Fault::kDamage:
    case Fault::kDelay:
    case Fault::kBurst:
    case Fault::kStranger:
    case Fault::kSmall:
    case Fault::kRegionDown:
    case Fault::kGone:
      WEIR_CHECK(false && "not a fault of one process");
  }
}

void World::plan_region_down(unsigned region) {
  scheduler_.after(random_.time(minutes(1), scenario_.duration), [this, region] {
    if (is_over()) return;
    for (unsigned a = 0; a < scenario_.aggregators; ++a) {
      Process& process = *tiers_.at(aggregator_name(region, a));
      say(process.name(), "its region is down");
      process.kill();
      scheduler_.after(random_.time(minutes(1), scenario_.duration / 2),
                       [&process] { process.start(); });
    }
  });
}

void World::plan_gone(unsigned region) {
  SimTier& tier = *tiers_.at(
      aggregator_name(region, static_cast<unsigned>(random_.below(scenario_.aggregators))));
  scheduler_.after(random_.time(scenario_.duration / 4, scenario_.duration), [this, &tier] {
    if (is_over()) return;
    say(tier.name(), "is gone");
    tier.go_away();
  });
}

void World::plan_strangers() {
  scheduler_.after(random_.time(seconds(1), seconds(60)), [this] {
    if (is_over()) return;
    plan_strangers();
    auto at = tiers_.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random_.below(tiers_.size())));
    if (!at->second->is_running() || at->second->is_paused()) return;
    FrameHeader header;
    header.type = static_cast<FrameType>(random_.below(24));
    if (header.type == FrameType::kHello) header.type = FrameType::kData;  // those are welcome
    header.epoch = random_.next() >> 1;
    header.seq = random_.below(100);
    for (std::byte& byte : header.source) byte = static_cast<std::byte>(random_.below(256));
    Bytes body(random_.below(300), std::byte{7});
    HeaderBytes bytes = encode_header_for(header, body);
    switch (random_.below(4)) {
      case 0:
        bytes[random_.below(bytes.size())] ^= std::byte{16};
        break;
      case 1:
        body.resize(random_.below(body.size() + 1));
        break;
      default:
        break;  // all of it is well formed: only nobody has greeted
    }
    const size_t length = random_.percent(10) ? random_.below(bytes.size()) : bytes.size();
    network_.inject(at->second->config().endpoint, "stranger", ByteView(bytes).first(length), body);
  });
}

// What a tier says as it says it: an acknowledgement only of what would be there after a crash.
void World::check_sent(const std::string& process, ByteView header_bytes, ByteView body) {
  const auto header = decode_header(header_bytes);
  if (!header.ok() || (header->type != FrameType::kAckR && header->type != FrameType::kAckG &&
                       header->type != FrameType::kIncluded)) {
    return;
  }
  const auto message = decode_control(body);
  WEIR_CHECK(message.ok());
  if (const auto* told = std::get_if<Included>(&*message)) {
    if (told->fenced && !global_->has_fenced(told->tier_source, told->tier_epoch)) {
      oracle_.violation(fmt::format("{} tells of the fence of epoch {}, which a crash would lose",
                                    process, told->tier_epoch));
    }
    return;
  }
  const auto* ack = std::get_if<Ack>(&*message);
  WEIR_CHECK(ack != nullptr);
  for (const SeqSpan& span : ack->spans) {
    if (!tiers_.at(process)->holds(header->type, header->source, span)) {
      oracle_.violation(fmt::format("{} acknowledges epoch {} seq {}-{}, which a crash would lose",
                                    process, span.epoch, span.lo, span.hi));
    }
  }
}

void World::clean_up() {
  over_ = true;
  say("world", "no more faults");
  network_.set_faults({});
  network_.heal_all();
  for (auto& [name, tier] : tiers_) {
    tier->crash_at({});
    tier->clock().step(-tier->clock().stepped());
    tier->resume();
    tier->start();
  }
  for (auto& [name, edge] : edges_) {
    edge->crash_at({});
    edge->clock().step(-edge->clock().stepped());
    edge->resume();
    edge->start();
  }
}

bool World::drain() {
  const auto drained = [&] {
    for (auto& [name, edge] : edges_) {
      if (!edge->is_drained()) return false;
    }
    for (auto& [name, tier] : tiers_) {
      if (!tier->is_away() && !tier->is_drained()) return false;
    }
    return true;
  };
  for (Nanos end = scheduler_.now() + kDrainLimit; scheduler_.now() < end;) {
    scheduler_.run_until(scheduler_.now() + kDrainLook);
    // What was down when the faults ended is up by now.
    for (auto& [name, tier] : tiers_) tier->start();
    for (auto& [name, edge] : edges_) edge->start();
    if (drained()) return true;
  }
  for (auto& [name, edge] : edges_) {
    if (!edge->is_drained()) oracle_.violation(name + " is not empty");
  }
  for (auto& [name, tier] : tiers_) {
    if (!tier->is_away() && !tier->is_drained()) oracle_.violation(name + " is not empty");
  }
  return false;
}

void World::judge() {
  for (auto& [name, edge] : edges_) edge->check_books();
  for (auto& [name, tier] : tiers_) {
    for (const auto& [counter, value] : tier->counters()) {
      if (counter == "weir_ledger_imbalance" && value != 0) {
        oracle_.violation(fmt::format("{}: {} is {}", name, counter, value));
      }
    }
  }
  auto reader = aggregator::Reader::open(global_->disk().path(), global_->config().tier,
                                         global_->clock(), Disk::options());
  WEIR_CHECK(reader.ok());
  const int64_t start_s = SimClock::kStartS;
  const auto read = [&](const char* metric, auto&& tell) {
    aggregator::SelectRequest request;
    request.metric = metric;
    request.range = {start_s - 60 * 86400, start_s + 60 * 86400};
    const auto selection = (*reader)->select(request, {});
    WEIR_CHECK(selection.ok());
    for (const auto& series : selection->series) {
      std::string edge;
      for (const auto& [name, value] : series.labels) {
        if (name == "src") edge = value;
      }
      for (const auto& window : series.windows) {
        tell(edge, window.window.start_s, std::get<Counter>(window.value).delta);
      }
    }
  };
  read("requests_total", [&](const std::string& edge, int64_t window_s, uint64_t mass) {
    oracle_.merged(edge, window_s, mass);
  });
  read(kDropped, [&](const std::string& edge, int64_t window_s, uint64_t mass) {
    oracle_.lost(edge, window_s, mass);
  });
  global_->tell_accounts(oracle_);
  oracle_.judge(scenario_.has(Fault::kClock) ? Oracle::Grain::kSources : Oracle::Grain::kWindows,
                scenario_.coarse_s);
}

}  // namespace weir::sim
