#include "tests/sim/sim_edge.h"

#include <algorithm>

#include "common/check.h"
#include "common/crash_point.h"

namespace weir::sim {
namespace {

constexpr Nanos kLookEvery = std::chrono::minutes(1);
constexpr std::chrono::hours kOutboxAge{12};  // less than clocks step, more than anything waits

EncodedBatch one_counter(const std::string& edge, const Window& window, uint64_t mass) {
  static const Metric kMetric{"requests_total", Kind::kCounter, "", 0};
  static const Labels kLabels{{"service", "shop"}};
  const Value value = Counter{mass};
  const BatchRow row{&kMetric, &kLabels, &value};
  auto batches = encode_batches({window, {{"host", edge}, {"src", edge}}, {}}, {&row, 1});
  WEIR_CHECK(batches.size() == 1);
  return std::move(batches.front());
}

// Nothing: no outbox was ever opened on this disk.
std::optional<SourceId> source_in(Database& db) {
  auto meta = db.prepare("SELECT source FROM outbox_meta");
  if (!meta.ok() || !*meta->step()) return {};
  const ByteView stored = meta->blob(0);
  SourceId id{};
  WEIR_CHECK(stored.size() == id.size());
  std::ranges::copy(stored, id.begin());
  return id;
}

// What an edge makes of an empty disk, less its rows: to make the tables takes longer than all else
// of a start.
Bytes empty_tables() {
  Disk disk("empty");
  OutboxOptions options;
  options.random = [] { return uint64_t{1}; };
  WEIR_CHECK(Outbox::open(disk.committed(), options).ok());
  WEIR_CHECK(disk.committed().exec("DELETE FROM outbox_meta").ok());
  return disk.contents();
}

}  // namespace

SimEdge::SimEdge(Scheduler& scheduler, Network& network, Oracle& oracle, EdgeConfig config)
    : Process(scheduler, network, config.name, config.tick_every),
      oracle_(oracle),
      config_(std::move(config)),
      random_(config_.seed) {}

SimEdge::~SimEdge() { SimEdge::close(); }

Status SimEdge::open() {
  OutboxOptions options;
  options.max_bytes = config_.outbox_bytes;
  options.random = [this] { return random_.next(); };
  WEIR_TRY_ASSIGN(outbox_, Outbox::open(disk().committed(), options));
  oracle_.name(outbox_->source(), name());
  UplinkOptions up;
  up.offers.labels = {{"host", name()}, {"src", name()}};
  up.session = {.name = name(),
                .tier = "edge",
                .ping_every = config_.ping_every,
                .silence = 3 * config_.ping_every};
  up.fence_after = config_.fence_after;
  uplink_.emplace(*outbox_, up);
  last_ = {};
  for (const std::string& upstream : config_.upstreams) {
    links_.push_back(connect(upstream));
    const size_t number = uplink_->add(upstream, *links_.back());
    links_.back()->on_receive([this, number](ByteView header, ByteView body) {
      last_ = uplink_->on_message(number, clock().mono(), clock().now(), header, body);
    });
  }
  return {};
}

void SimEdge::close() {
  uplink_.reset();
  links_.clear();
  outbox_.reset();
  disk().roll_back();
  adopt();
}

Status SimEdge::health() { return last_; }

Status SimEdge::tick() {
  const MonoTime now = clock().mono();
  if (now.time_since_epoch() >= next_look_) {
    next_look_ = now.time_since_epoch() + kLookEvery;
    WEIR_TRY(outbox_->drop_older_than(kOutboxAge, now, "outbox_age"));
  }
  return uplink_->tick(now, clock().now());
}

void SimEdge::push(unsigned ago) {
  run([&]() -> Status {
    const Window now = window_at(unix_seconds(clock().now()), config_.window_s);
    const Window window{now.start_s - int64_t{ago + 1} * config_.window_s, config_.window_s};
    const uint64_t mass = random_.between(1, 1000);
    uint64_t seq = 0;
    const Status done = disk().committed().transaction([&]() -> Status {
      WEIR_TRY_ASSIGN(
          seq, outbox_->append(window, one_counter(name(), window, mass), uplink_->target()));
      crash_point("edge.commit_before");
      return {};
    });
    WEIR_TRY(done);
    crash_point("edge.commit_after");
    oracle_.pushed(outbox_->source(), outbox_->epoch(), seq, window.start_s, mass);
    return tick();
  });
}

void SimEdge::adopt() {
  Database& db = disk().committed();
  const auto source = source_in(db);
  if (!source) return;
  auto rows = *db.prepare("SELECT epoch, seq, win_start, mass FROM outbox");
  while (*rows.step()) {
    const uint64_t epoch = rows.unsigned_integer(0);
    const uint64_t seq = rows.unsigned_integer(1);
    if (oracle_.knows(*source, epoch, seq)) continue;
    oracle_.pushed(*source, epoch, seq, rows.integer(2), rows.unsigned_integer(3));
  }
}

void SimEdge::rows_may_vanish() {
  Database& db = disk().committed();
  const auto source = source_in(db);
  if (!source) return;
  auto rows = *db.prepare("SELECT epoch, seq FROM outbox");
  while (*rows.step()) {
    oracle_.may_vanish(*source, rows.unsigned_integer(0), rows.unsigned_integer(1));
  }
}

void SimEdge::lose_disk() {
  static const Bytes kTables = empty_tables();
  rows_may_vanish();
  disk().lose_rows(kTables);
}

void SimEdge::restore_copy() {
  rows_may_vanish();
  disk().restore();
}

std::optional<uint64_t> SimEdge::verdicts() const {
  if (!is_running() || !uplink_) return {};
  return uplink_->stats().bad_messages;
}

bool SimEdge::is_drained() {
  return is_running() && number(disk().committed(), "SELECT count(*) FROM outbox") == 0;
}

void SimEdge::check_books() {
  run([&]() -> Status {
    WEIR_TRY_ASSIGN(const OutboxStats stats, outbox_->stats());
    if (stats.pushed_mass != stats.acked_mass() + stats.outbox_mass) {
      oracle_.violation(name() + ": the outbox's books do not balance");
    }
    WEIR_TRY_ASSIGN(const auto losses, outbox_->losses());
    if (losses.contains("outbox_age")) oracle_.violation(name() + " gave up data for its age");
    return {};
  });
}

}  // namespace weir::sim
