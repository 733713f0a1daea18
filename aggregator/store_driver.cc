#include "aggregator/store_driver.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/check.h"

namespace weir::aggregator {
namespace {

using std::chrono::milliseconds;

constexpr size_t kDrainBatches = 64;
constexpr size_t kDrainBytes = size_t{8} << 20;
constexpr milliseconds kMaintainEvery{1000};
constexpr int kFoldsPerTick = 8;  // then drains have their turn
constexpr int kClosesPerTick = 16;
constexpr int kSettlesPerTick = 16;
constexpr int64_t kReplayWindows = 500;  // what detectors learn again after a restart

}  // namespace

Result<std::unique_ptr<StoreDriver>> StoreDriver::open(const StoreThreadConfig& config,
                                                       const Clock& clock, Link* link,
                                                       OnAnswers on_answers) {
  std::unique_ptr<StoreDriver> out(new StoreDriver(config, clock, std::move(on_answers)));
  WEIR_TRY(out->prepare(link));
  return out;
}

Status StoreDriver::prepare(Link* link) {
  const Tier& tier = config_.tier;
  WEIR_CHECK(tier.last() == (link == nullptr));
  WEIR_TRY_ASSIGN(store_, Store::open(config_.path, tier, config_.store, now_s()));
  if (config_.detectors == Detectors::kOn) {
    WEIR_TRY_ASSIGN(reader_, Reader::open(config_.path, tier, clock_));
    WEIR_TRY(learn_again());
  }
  answer(store_->release_all());
  WEIR_TRY_ASSIGN(here_, store_->ledger().all(LedgerLevel::kHere));
  last_tier_ = here_;
  if (!tier.last()) {
    WEIR_TRY_ASSIGN(last_tier_, store_->ledger().all(LedgerLevel::kLastTier));
    UplinkOptions options;
    options.offers.type = FrameType::kOut;
    options.offers.crash_prefix = tier.kind;
    options.session.name = tier.name;
    options.session.tier = tier.kind;
    uplink_.emplace(store_->outbox(), std::move(options));
    uplink_->add(tier.upstream, *link);
    link->on_receive([this](ByteView header, ByteView body) { from_above(header, body); });
  }
  next_fold_ = clock_.mono() + tier.flush_every;
  publish();
  if (failed_) return *failed_;
  return {};
}

// Detectors keep no state on disk: they look at the newest closed windows again.
Status StoreDriver::learn_again() {
  const auto closed = store_->closed_to_s();
  if (!closed) return {};
  const uint32_t width = store_->tier().out_s;
  auto done = monitor_.replay(*reader_, {*closed - kReplayWindows * width, width},
                              {*closed - width, width});
  if (!done.ok()) log::warn("detectors start from nothing: {}", done.error().message);
  return {};
}

template <class T>
bool StoreDriver::good(const Result<T>& result) {
  if (!result.ok() && !failed_) failed_ = result.error();
  return result.ok();
}

void StoreDriver::answer(Result<Answers> answers) {
  if (!good(answers)) return;
  unsent_.insert(unsent_.end(), answers->begin(), answers->end());
  if (unsent_.empty()) return;
  if (on_answers_(unsent_)) unsent_.clear();  // else with the next one, or the next tick
}

void StoreDriver::take(std::vector<AcceptedBatch> batches) {
  std::ranges::move(batches, std::back_inserter(waiting_));
  commit_waiting();
}

// Bounded by Intake: it passes on so many bytes until they are answered.
void StoreDriver::commit_waiting() {
  size_t from = 0;
  while (!failed_ && from < waiting_.size() && !store_->inbox_full()) {
    size_t to = from;
    size_t bytes = 0;
    while (to < waiting_.size() && to - from < kDrainBatches && bytes < kDrainBytes) {
      bytes += waiting_[to++].body.size();
    }
    answer(store_->drain(std::span(waiting_).subspan(from, to - from)));
    from = to;
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(from));
}

void StoreDriver::from_above(ByteView header, ByteView body) {
  if (failed_) return;
  if (!good(uplink_->on_message(0, clock_.mono(), clock_.now(), header, body))) return;
  const auto released = uplink_->take_released();
  if (!released.empty()) answer(store_->release(released));
}

// Each try that finds no room reads the catalog anew: not more often than folds are due.
void StoreDriver::wait_for_room() {
  no_room_until_ = clock_.mono() + std::max<std::chrono::milliseconds>(store_->tier().flush_every,
                                                                       std::chrono::seconds(1));
}

// False: nothing more can be folded now.
bool StoreDriver::fold_before(int64_t before_s) {
  for (int i = 0; i < kFoldsPerTick && !failed_; ++i) {
    auto folded = store_->fold(before_s);
    if (!good(folded)) return false;
    if (!folded->blocked_by.empty()) {
      warnings_.warn(clock_.mono(), "batches wait in the inbox: {}", folded->blocked_by);
      wait_for_room();
      return false;
    }
    if (folded->quarantined > 0) {
      warnings_.warn(clock_.mono(), "{} damaged batches of the inbox put aside; {}",
                     folded->quarantined,
                     store_->tier().last() ? "they are lost" : "their senders are asked again");
    }
    answer(std::move(folded->acks));
    if (!folded->more) return true;
  }
  return false;
}

void StoreDriver::fold_if_due() {
  const Tier& tier = store_->tier();
  if (tier.flush_every.count() == 0) {
    fold_before(window_at(now_s() - tier.close_after_s, tier.out_s).start_s);
  } else if (clock_.mono() >= next_fold_) {
    next_fold_ = clock_.mono() + tier.flush_every;
    fold_before(INT64_MAX);
  }
}

void StoreDriver::settle_windows() {
  if (clock_.mono() < no_room_until_) return;
  for (int i = 0; i < kSettlesPerTick && !failed_; ++i) {
    const auto window = store_->unsettled(now_s());
    if (!window) return;
    const auto unfolded = store_->has_inbox(*window);
    if (!good(unfolded)) return;
    if (*unfolded && !fold_before(window->end_s())) return;
    const auto settled = store_->settle();
    if (!good(settled)) return;
    if (!*settled) return wait_for_room();
  }
}

void StoreDriver::close_windows() {
  if (clock_.mono() < no_room_until_) return;
  for (int i = 0; i < kClosesPerTick && !failed_; ++i) {
    const auto window = store_->closable(now_s());
    if (!good(window) || !window->has_value()) return;
    const auto unfolded = store_->has_inbox(**window);
    if (!good(unfolded)) return;
    if (*unfolded && !fold_before((*window)->end_s())) return;
    auto anomalies = reader_ ? monitor_.step(*reader_, **window) : std::vector<Anomaly>{};
    if (!anomalies.ok()) {
      ++detector_errors_;
      warnings_.warn(clock_.mono(), "detectors skip a window: {}", anomalies.error().message);
      anomalies = std::vector<Anomaly>{};
    }
    if (!good(store_->close(**window, *anomalies))) return;
  }
}

void StoreDriver::maintain_if_due() {
  if (failed_ || clock_.mono() < next_maintenance_) return;
  const auto more = store_->maintain(now_s());
  if (!good(more)) return;
  next_maintenance_ = clock_.mono() + (*more ? milliseconds(0) : kMaintainEvery);
}

void StoreDriver::tick() {
  if (failed_) return;
  answer(Answers{});
  commit_waiting();
  fold_if_due();
  settle_windows();
  close_windows();
  maintain_if_due();
  if (failed_) return;
  publish();
  if (uplink_) good(uplink_->tick(clock_.mono(), clock_.now()));
}

void StoreDriver::publish() {
  StoreStatus status;
  auto outbox = store_->outbox().stats();
  auto widths = store_->widths(now_s());
  if (!good(outbox) || !good(widths)) return;
  status.outbox = *outbox;
  status.widths = *std::move(widths);
  status.inbox_rows = store_->inbox_rows();
  status.inbox_bytes = store_->inbox_bytes();
  status.counters = store_->counters();
  status.counters["weir_detect_groups_refused_total"] = monitor_.groups_refused();
  status.counters["weir_detect_errors_total"] = detector_errors_;
  status.counters["weir_store_waiting_batches"] = waiting_.size();
  if (uplink_) {
    status.upstream = uplink_->stats();
    SourceReport report;
    report.name = store_->tier().name;
    report.tier = store_->tier().kind;
    report.counters.assign(status.counters.begin(), status.counters.end());
    uplink_->set_report(std::move(report));
  }
  status_ = std::move(status);
}

}  // namespace weir::aggregator
