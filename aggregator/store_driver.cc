#include "aggregator/store_driver.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/check.h"
#include "common/database_file.h"

namespace weir::aggregator {
namespace {

using std::chrono::milliseconds;

constexpr size_t kDrainBatches = 64;
constexpr size_t kDrainBytes = size_t{8} << 20;
constexpr milliseconds kMaintainEvery{1000};
constexpr milliseconds kLedgerEvery{2000};
constexpr milliseconds kLookAheadEvery{10'000};
constexpr int64_t kAheadS = 600;              // no batch is taken for a window so far ahead
constexpr milliseconds kBehindFor{200};       // after a full drain
constexpr milliseconds kDrainsFirst{10'000};  // then folds take turns with them
constexpr int kClosesPerTick = 16;
constexpr int kSettlesPerTick = 16;
constexpr size_t kMaxAskers = 10'000;    // whose answers a tier between has not passed on
constexpr int64_t kReplayWindows = 500;  // what detectors learn again after a restart

}  // namespace

Result<std::unique_ptr<StoreDriver>> StoreDriver::open(const StoreThreadConfig& config,
                                                       const Clock& clock,
                                                       const std::vector<UpwardLink>& links,
                                                       OnAnswers on_answers) {
  std::unique_ptr<StoreDriver> out(new StoreDriver(config, clock, std::move(on_answers)));
  WEIR_TRY(out->prepare(links));
  return out;
}

Status StoreDriver::prepare(const std::vector<UpwardLink>& links) {
  const Tier& tier = config_.tier;
  WEIR_CHECK(tier.last() == links.empty());
  const auto attempt = [this]() -> Status {
    Status done = read_what_a_start_reads();
    if (done.ok()) return done;
    reader_.reset();
    store_.reset();
    failed_.reset();
    monitor_ = Monitor();
    unsent_ = {};
    return done;
  };
  const DatabaseOptions& database = config_.store.database;
  WEIR_TRY(database.in_memory ? attempt() : open_or_replace(config_.path, database, attempt));
  if (!tier.last()) connect(links);
  next_fold_ = clock_.mono() + tier.flush_every;
  return {};
}

// All of it, so that a file in which any of it is damaged is put aside instead of stopping each
// start.
Status StoreDriver::read_what_a_start_reads() {
  const Tier& tier = config_.tier;
  WEIR_TRY_ASSIGN(store_, Store::open_as_it_is(config_.path, tier, config_.store, now_s()));
  store_->set_fences(config_.fences);
  if (config_.detectors == Detectors::kOn) {
    WEIR_TRY_ASSIGN(reader_, Reader::open(config_.path, tier, clock_, config_.store.database));
    WEIR_TRY(learn_again());
  }
  release_all();
  WEIR_TRY_ASSIGN(here_, store_->ledger().all(LedgerLevel::kHere));
  last_tier_ = here_;
  if (!tier.last()) {
    WEIR_TRY_ASSIGN(last_tier_, store_->ledger().all(LedgerLevel::kLastTier));
  }
  publish();
  if (failed_) return *failed_;
  return {};
}

void StoreDriver::connect(const std::vector<UpwardLink>& links) {
  const Tier& tier = config_.tier;
  UplinkOptions options;
  options.offers.type = FrameType::kOut;
  options.offers.crash_prefix = tier.kind;
  options.session = config_.session;
  options.session.name = tier.name;
  options.session.tier = tier.kind;
  options.seed = config_.seed;
  options.on_epoch = [this](uint64_t epoch) { return begin_epoch(epoch); };
  options.on_included = [this](const Included& included) {
    Answers answers;
    const auto asker = askers_.find(included.source);
    answers.told.push_back({asker == askers_.end() ? included.source : asker->second, included});
    if (asker != askers_.end()) askers_.erase(asker);
    answer(std::move(answers));
  };
  uplink_.emplace(store_->outbox(), std::move(options));
  for (const auto& [endpoint, link] : links) {
    const size_t upstream = uplink_->add(endpoint, *link);
    link->on_receive(
        [this, upstream](ByteView header, ByteView body) { from_above(upstream, header, body); });
  }
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

// As good(); but want of room is not the end: what did not fit is tried again.
template <class T>
bool StoreDriver::stored(const Result<T>& result, const char* what) {
  if (result.ok()) return true;
  if (result.error().code != Errc::kLimit) return good(result);
  warnings_.warn(clock_.mono(), "no room on the disk: {} waits: {}", what, result.error().message);
  return false;
}

void StoreDriver::answer(Answers&& answers) {
  unsent_.add(std::move(answers));
  if (unsent_.empty()) return;
  if (on_answers_(unsent_)) unsent_ = {};  // else with the next one, or the next tick
}

void StoreDriver::acknowledge(Result<std::vector<Acknowledgement>> acks) {
  if (!good(acks)) return;
  Answers answers;
  answers.acks = *std::move(acks);
  answer(std::move(answers));
}

void StoreDriver::take(std::vector<StoreRequest> requests) {
  if (failed_) return;
  for (StoreRequest& request : requests) {
    if (auto* batch = std::get_if<AcceptedBatch>(&request)) waiting_.push_back(std::move(*batch));
  }
  commit_waiting();
  for (const StoreRequest& request : requests) {
    if (failed_) return;
    if (const auto* greeting = std::get_if<Greeting>(&request)) greet(*greeting);
    if (const auto* question = std::get_if<Question>(&request)) tell(*question);
  }
}

void StoreDriver::greet(const Greeting& greeting) {
  auto greeted = store_->greet(greeting);
  if (!stored(greeted, "a tier that says HELLO")) return;  // it does so again
  Answers answers;
  answers.greeted.push_back(*greeted);
  answer(std::move(answers));
}

// A tier in between only passes it on, and the answer back.
void StoreDriver::tell(const Question& question) {
  if (uplink_) {
    const AskIncluded& ask = question.ask;
    // Of an epoch that this tier handed out the one above knows nothing.
    if (store_->knows_tier(ask.tier_source) || !uplink_->ask(ask)) {
      ++questions_unasked_;
    } else if (question.asker != ask.source) {
      if (askers_.size() >= kMaxAskers) askers_.clear();  // they ask again
      askers_[ask.source] = question.asker;
    }
    return;
  }
  auto told = store_->tell(question, store_->lived_s());
  if (stored(told, "a fence")) answer(*std::move(told));
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
    const auto batches = std::span(waiting_).subspan(from, to - from);
#ifdef WEIR_MUTATE_ACK_BEFORE_COMMIT  // a build that tests must refuse
    std::vector<Acknowledgement> early;
    for (const AcceptedBatch& batch : batches) {
      const SeqRange one{batch.source, batch.epoch, batch.seq, batch.seq};
      early.push_back(weir::aggregator::answer(one, FrameType::kAckR));
      if (!uplink_) early.push_back(weir::aggregator::answer(one, FrameType::kAckG));
    }
    acknowledge(std::move(early));
#endif
    auto acks = store_->drain(batches);
    if (!stored(acks, "what came in")) break;
    acknowledge(std::move(acks));
    if (batches.size() == kDrainBatches || bytes >= kDrainBytes) drained_in_full();
    from = to;
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(from));
}

void StoreDriver::drained_in_full() {
  const MonoTime now = clock_.mono();
  if (now >= behind_until_) behind_since_ = now;
  behind_until_ = now + kBehindFor;
}

// More comes in than one drain takes: it is acknowledged first, and not for ever.
bool StoreDriver::behind() const {
  const MonoTime now = clock_.mono();
  return now < behind_until_ && now < behind_since_ + kDrainsFirst;
}

void StoreDriver::from_above(size_t upstream, ByteView header, ByteView body) {
  if (failed_) return;
  const auto heard = uplink_->on_message(upstream, clock_.mono(), clock_.now(), header, body);
  if (!stored(heard, "what the tier above says")) return;  // it does so again
  release_taken();
}

void StoreDriver::release_all() {
  auto acks = store_->release_all();
  if (!stored(acks, "a release")) return;  // with the next tick
  released_all_ = true;
  acknowledge(std::move(acks));
}

void StoreDriver::release_taken() {
  const auto released = uplink_->take_released();
  to_release_.insert(to_release_.end(), released.begin(), released.end());
  if (to_release_.empty()) return;
  auto acks = store_->release(to_release_);
  if (!stored(acks, "a release")) return;  // with the next one, or the next tick
  to_release_.clear();
  acknowledge(std::move(acks));
}

// What the last tier has of the old epoch was told before: it is released and stays.
Status StoreDriver::begin_epoch(uint64_t epoch) {
  release_taken();
  if (failed_) return *failed_;
  const uint64_t before = store_->epoch();
  const auto begun = store_->begin_epoch(epoch);
  if (!stored(begun, "a new epoch")) return begun;  // the next HELLO brings it again
  if (before != 0) {
    log::warn(
        "this tier's epoch {} is over and {} begins: what was not at the last tier is dropped "
        "here, and comes again from below",
        before, epoch);
  }
  Answers answers;
  answers.own_epoch = epoch;
  answer(std::move(answers));
  return {};
}

// Each try that finds no room reads the catalog anew: not more often than folds are due.
void StoreDriver::wait_for_room() {
  no_room_until_ = clock_.mono() + std::max<std::chrono::milliseconds>(store_->tier().flush_every,
                                                                       std::chrono::seconds(1));
}

// One fold: then drains have their turn. False: it did not take all, the next tick goes on.
bool StoreDriver::fold_before(int64_t before_s) {
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
  acknowledge(std::move(folded->acks));
  return !folded->more;
}

void StoreDriver::fold_if_due() {
  if (clock_.mono() < no_room_until_) return;
  const Tier& tier = store_->tier();
  const bool by_window = tier.flush_every.count() == 0;
  if (by_window && !fold_before(window_at(now_s() - tier.close_after_s, tier.out_s).start_s)) {
    return;
  }
  if (clock_.mono() < next_fold_) return;
  const auto next = clock_.mono() + (by_window ? kLookAheadEvery : tier.flush_every);
  if (by_window) {
    // Our clock was set back: what it would reach only later does not wait for it.
    const auto ahead = store_->has_inbox({now_s() + kAheadS, UINT32_MAX});
    if (!good(ahead)) return;
    if (!*ahead) {
      next_fold_ = next;
      return;
    }
  }
  if (fold_before(INT64_MAX)) next_fold_ = next;
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
    if (!stored(store_->close(**window, *anomalies), "a window")) return wait_for_room();
  }
}

void StoreDriver::maintain_if_due() {
  if (failed_ || clock_.mono() < next_maintenance_) return;
  const auto more = store_->maintain(now_s(), clock_.mono());
  next_maintenance_ = clock_.mono() + kMaintainEvery;
  if (stored(more, "maintenance") && *more) next_maintenance_ = clock_.mono();
}

void StoreDriver::tick() {
  if (failed_) return;
  answer({});
  commit_waiting();
  // An old copy of this database may be below what the tier above has of its epoch: nothing gets a
  // number of it before that is known.
  if (uplink_ && uplink_->target()) confirmed_ = true;
  if ((!uplink_ || confirmed_) && !behind()) {
    fold_if_due();
    settle_windows();
    close_windows();
  }
  maintain_if_due();
  if (failed_) return;
  publish();
  if (!uplink_) return;
  if (!stored(uplink_->tick(clock_.mono(), clock_.now()), "the way up")) return;
  if (!released_all_) release_all();
  release_taken();
  if (!failed_ && store_->take_damage()) {
    warnings_.warn(clock_.mono(), "a damaged manifest: this tier starts anew under another epoch");
    uplink_->start_anew(clock_.mono());
  }
}

void StoreDriver::set_policy(const Limits& limits, const FencePolicy& fences) {
  store_->set_limits(limits);
  store_->set_fences(fences);
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
  if (const auto disk = store_->disk_usage(); disk.ok() && *disk) {
    for (const auto& [name, value] : counters_of(**disk)) status.counters[name] = value;
  }
  status.counters["weir_store_waiting_batches"] = waiting_.size();
  status.counters["weir_store_questions_unasked_total"] = questions_unasked_;
  status.ledger = status_.ledger;
  publish_ledger(status.ledger);
  status.counters["weir_ledger_imbalance"] = status.ledger.imbalance;
  status.counters["weir_ledger_gaps"] = status.ledger.gaps;
  status.counters["weir_ledger_sources"] = status.ledger.sources;
  if (uplink_) {
    status.upstream = uplink_->stats();
    status.counters["weir_upstream_rollbacks_total"] = status.upstream.rollbacks;
    status.counters["weir_upstream_damaged_total"] = status.upstream.damaged;
    SourceReport report;
    report.name = store_->tier().name;
    report.tier = store_->tier().kind;
    report.counters.assign(status.counters.begin(), status.counters.end());
    uplink_->set_report(std::move(report));
  }
  status_ = std::move(status);
}

// Reads every account: now and then.
void StoreDriver::publish_ledger(LedgerStatus& ledger) {
  if (!store_->tier().last() || clock_.mono() < next_ledger_) return;
  next_ledger_ = clock_.mono() + kLedgerEvery;
  const auto sources = store_->accounted_sources();
  const auto off = store_->unbalanced();
  const auto gaps = store_->gaps();
  if (!good(sources) || !good(off) || !good(gaps)) return;
  ledger = {};
  ledger.sources = *sources;
  ledger.unbalanced = off->size();
  ledger.gapped = gaps->size();
  for (const auto& [source, imbalance] : *off) {
    ledger.imbalance += imbalance;
    if (ledger.worst.size() < LedgerStatus::kWorst) ledger.worst.push_back({source, imbalance});
  }
  for (const Accounts::Gaps& one : *gaps) {
    ledger.gaps += one.gaps;
    if (ledger.most_gaps.size() < LedgerStatus::kWorst) ledger.most_gaps.push_back(one);
  }
}

}  // namespace weir::aggregator
