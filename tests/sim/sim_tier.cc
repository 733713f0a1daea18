#include "tests/sim/sim_tier.h"

#include <algorithm>
#include <utility>

namespace weir::sim {
namespace {

// 5 s without a tick are to Intake its own sleep.
constexpr Nanos kIntakeTick = std::chrono::seconds(4);
constexpr size_t kQueue = 8192;  // as the real one's mailbox

}  // namespace

SimTier::SimTier(Scheduler& scheduler, Network& network, TierConfig config)
    : Process(scheduler, network, config.tier.name, kIntakeTick),
      config_(std::move(config)),
      random_(config_.seed) {}

SimTier::~SimTier() { SimTier::close(); }

Status SimTier::open() {
  aggregator::StoreThreadConfig store;
  store.path = disk().path();
  store.tier = config_.tier;
  store.store.database = Disk::options();
  store.store.random = [this] { return random_.next(); };
  store.fences.after_s = config_.fence_after / std::chrono::seconds(1);
  store.detectors = aggregator::Detectors::kOff;
  store.session.ping_every = config_.ping_every;
  store.session.silence = 3 * config_.ping_every;
  store.seed = random_.next();
  std::vector<aggregator::UpwardLink> up;
  if (!config_.tier.last()) {
    link_ = connect(config_.tier.upstream);
    up.push_back({config_.tier.upstream, link_.get()});
  }
  WEIR_TRY_ASSIGN(driver_, aggregator::StoreDriver::open(
                               store, clock(), up, [this](const aggregator::Answers& answers) {
                                 if (intake_) intake_->committed(answers);
                                 return intake_.has_value();
                               }));
  door_ = bind(config_.endpoint);
  aggregator::IntakeLimits limits;
  limits.kind = config_.tier.kind;
  limits.source = driver_->source();
  limits.epoch = driver_->epoch();
  limits.window_width_s = config_.tier.in_s;
  intake_.emplace(*door_, limits, [this](aggregator::StoreRequest&& request) {
    if (queue_.size() >= kQueue) return false;
    if (queue_.empty()) run_after(kDrainAfter, [this] { return drain(); });
    queue_.push_back(std::move(request));
    return true;
  });
  intake_->restore(driver_->held_here(), driver_->held_at_last_tier());
  door_->on_receive(
      [this](const PeerId& peer, const std::optional<Identity>& identity, ByteView header,
             ByteView body) { intake_->on_message(instant(), peer, identity, header, body); });
  return {};
}

void SimTier::close() {
  queue_.clear();
  intake_.reset();
  door_.reset();
  driver_.reset();
  link_.reset();
}

Status SimTier::drain() {
  driver_->take(std::exchange(queue_, {}));
  return {};
}

Status SimTier::tick() {
  intake_->tick(instant());
  if (clock().mono() < next_store_tick_) return {};
  next_store_tick_ = clock().mono() + config_.store_tick;
  driver_->tick();
  return {};
}

Status SimTier::health() {
  return driver_ && driver_->failed() ? Status(*driver_->failed()) : Status();
}

std::map<std::string, uint64_t> SimTier::counters() {
  std::map<std::string, uint64_t> out;
  if (intake_) out = intake_->counters();
  if (driver_) {
    driver_->tick();  // some are as of the last
    std::map<std::string, uint64_t> stored = driver_->status().counters;
    out.merge(stored);
  }
  return out;
}

std::optional<uint64_t> SimTier::verdicts() const {
  if (!is_running() || !intake_) return {};
  uint64_t sum = driver_->upstream().bad_messages;
  for (const auto& [name, count] : intake_->counters()) {
    if (name.starts_with("weir_intake_rejected_total") ||
        name.starts_with("weir_intake_duplicates")) {
      sum += count;
    }
  }
  return sum;
}

bool SimTier::is_drained() {
  Database& db = disk().committed();
  if (!is_running() || number(db, "SELECT count(*) FROM inbox") > 0) return false;
  return config_.tier.last() || (number(db, "SELECT count(*) FROM outbox") == 0 &&
                                 number(db, "SELECT count(*) FROM release") == 0);
}

void SimTier::tell_accounts(Oracle& oracle) {
  auto read =
      *disk().committed().prepare("SELECT source, epoch, lo, hi, merged, lost FROM account");
  while (*read.step()) {
    SourceId source{};
    std::ranges::copy(read.blob(0), source.begin());
    if (!oracle.is_edge(source)) continue;
    oracle.named(source, read.unsigned_integer(1), read.unsigned_integer(2),
                 read.unsigned_integer(3), read.unsigned_integer(4), read.unsigned_integer(5));
  }
}

bool SimTier::holds(FrameType acknowledgement, const SourceId& source, const SeqSpan& span) {
  auto read = *disk().committed().prepare(
      "SELECT 1 FROM ledger WHERE source=? AND epoch=? AND lo<=? AND hi>=? AND level=?");
  read.bind(1, ByteView(source)).bind(2, span.epoch).bind(3, span.lo).bind(4, span.hi);
  const bool further = acknowledgement == FrameType::kAckG && !config_.tier.last();
  read.bind(5, int64_t{further ? 2 : 1});
  return *read.step();
}

bool SimTier::has_fenced(const SourceId& tier, uint64_t epoch) {
  auto read = *disk().committed().prepare(
      "SELECT 1 FROM fence WHERE source=?1 AND epoch=?2 UNION "
      "SELECT 1 FROM region_epoch WHERE source=?1 AND floor>?2 UNION "
      "SELECT 1 WHERE ?2 = 0 OR ?2 > (SELECT coalesce(max(last), 0) FROM region_epoch WHERE "
      "source=?1)");
  read.bind(1, ByteView(tier)).bind(2, epoch);
  return *read.step();
}

}  // namespace weir::sim
