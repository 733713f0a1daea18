#include "aggregator/store_thread.h"

#include <algorithm>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "aggregator/detect/monitor.h"
#include "aggregator/store/reader.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/sender.h"

namespace weir::aggregator {
namespace {

using std::chrono::milliseconds;

constexpr size_t kDrainBatches = 64;
constexpr size_t kDrainBytes = size_t{8} << 20;
constexpr milliseconds kTick{100};
constexpr milliseconds kMaintainEvery{1000};
constexpr int kFoldsPerTick = 8;  // then drains have their turn
constexpr int kClosesPerTick = 16;
constexpr int kSettlesPerTick = 16;
constexpr int64_t kReplayWindows = 500;  // what detectors learn again after a restart

}  // namespace

// What both threads see.
struct StoreThread::Shared {
  StoreThreadConfig config;
  OnFatal on_fatal;
  std::thread thread;
  Loop* loop = nullptr;  // set before start() returns; stop() is thread-safe
  std::vector<SeqRange> here;
  std::vector<SeqRange> last_tier;
  mutable std::mutex mutex;
  StoreStatus status;  // under mutex
};

// Everything that lives on the store thread.
class StoreThread::Body {
 public:
  Body(Shared& shared, const Clock& clock, TransportContext& transport, Mailbox<AcceptedBatch>& in,
       Mailbox<Answers>& out)
      : shared_(shared), clock_(clock), transport_(transport), in_(in), out_(out) {}

  Status open() {
    const StoreThreadConfig& config = shared_.config;
    WEIR_TRY_ASSIGN(loop_, Loop::create());
    WEIR_TRY_ASSIGN(store_, Store::open(config.path, config.tier, config.store, now_s()));
    WEIR_TRY_ASSIGN(reader_, Reader::open(config.path, config.tier, clock_));
    WEIR_TRY(learn_again());
    answer(store_->release_all());
    WEIR_TRY_ASSIGN(shared_.here, store_->ledger().all(LedgerLevel::kHere));
    shared_.last_tier = shared_.here;
    if (!config.tier.last()) {
      WEIR_TRY_ASSIGN(shared_.last_tier, store_->ledger().all(LedgerLevel::kLastTier));
      WEIR_TRY_ASSIGN(link_, connect_link(transport_, *loop_, config.tier.upstream));
      sender_.emplace(store_->outbox(), *link_,
                      SenderOptions{.type = FrameType::kOut,
                                    .compress = true,
                                    .name = config.tier.name,
                                    .tier = config.tier.kind});
      link_->on_receive([this](ByteView header, ByteView body) { from_above(header, body); });
    }
    loop_->on_readable(in_.fd(), [this] { drain(); });
    loop_->every(kTick, [this] { tick(); });
    next_fold_ = clock_.mono() + shared_.config.tier.flush_every;
    shared_.loop = loop_.get();
    publish();
    return {};
  }

  void run() { loop_->run(); }

 private:
  [[nodiscard]] int64_t now_s() const { return unix_seconds(clock_.now()); }

  // Detectors keep no state on disk: they look at the newest closed windows again.
  Status learn_again() {
    const auto closed = store_->closed_to_s();
    if (!closed) return {};
    const uint32_t width = store_->tier().out_s;
    auto done = monitor_.replay(*reader_, {*closed - kReplayWindows * width, width},
                                {*closed - width, width});
    if (!done.ok()) log::warn("detectors start from nothing: {}", done.error().message);
    return {};
  }

  void fatal(const Error& error) {
    if (std::exchange(failed_, true)) return;
    shared_.on_fatal(error);
    loop_->stop();
  }

  template <class T>
  bool good(const Result<T>& result) {
    if (!result.ok()) fatal(result.error());
    return result.ok();
  }

  void answer(Result<Answers> answers) {
    if (!good(answers)) return;
    unsent_.insert(unsent_.end(), answers->begin(), answers->end());
    if (unsent_.empty()) return;
    if (out_.push(unsent_)) unsent_.clear();  // else with the next one, or the next tick
  }

  void drain() {
    for (AcceptedBatch& batch : in_.drain()) waiting_.push_back(std::move(batch));
    commit_waiting();
  }

  // Bounded by Intake: it passes on so many bytes until they are answered.
  void commit_waiting() {
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

  void from_above(ByteView header, ByteView body) {
    if (failed_) return;
    if (!good(sender_->on_message(clock_.mono(), header, body))) return;
    const auto released = sender_->take_released();
    if (!released.empty()) answer(store_->release(released));
  }

  // Each try that finds no room reads the catalog anew: not more often than folds are due.
  void wait_for_room() {
    no_room_until_ = clock_.mono() + std::max<std::chrono::milliseconds>(store_->tier().flush_every,
                                                                         std::chrono::seconds(1));
  }

  // False: nothing more can be folded now.
  bool fold_before(int64_t before_s) {
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

  void fold_if_due() {
    const Tier& tier = store_->tier();
    if (tier.flush_every.count() == 0) {
      fold_before(window_at(now_s() - tier.close_after_s, tier.out_s).start_s);
    } else if (clock_.mono() >= next_fold_) {
      next_fold_ = clock_.mono() + tier.flush_every;
      fold_before(INT64_MAX);
    }
  }

  void settle_windows() {
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

  void close_windows() {
    if (clock_.mono() < no_room_until_) return;
    for (int i = 0; i < kClosesPerTick && !failed_; ++i) {
      const auto window = store_->closable(now_s());
      if (!good(window) || !window->has_value()) return;
      const auto unfolded = store_->has_inbox(**window);
      if (!good(unfolded)) return;
      if (*unfolded && !fold_before((*window)->end_s())) return;
      auto anomalies = monitor_.step(*reader_, **window);
      if (!anomalies.ok()) {
        ++detector_errors_;
        warnings_.warn(clock_.mono(), "detectors skip a window: {}", anomalies.error().message);
        anomalies = std::vector<Anomaly>{};
      }
      if (!good(store_->close(**window, *anomalies))) return;
    }
  }

  void maintain_if_due() {
    if (failed_ || clock_.mono() < next_maintenance_) return;
    const auto more = store_->maintain(now_s());
    if (!good(more)) return;
    next_maintenance_ = clock_.mono() + (*more ? milliseconds(0) : kMaintainEvery);
  }

  void tick() {
    if (failed_) return;
    answer(Answers{});
    commit_waiting();
    fold_if_due();
    settle_windows();
    close_windows();
    maintain_if_due();
    if (failed_) return;
    publish();
    if (sender_) good(sender_->tick(clock_.mono(), clock_.now()));
  }

  void publish() {
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
    if (sender_) {
      status.upstream = sender_->stats();
      SourceReport report;
      report.name = store_->tier().name;
      report.tier = store_->tier().kind;
      report.counters.assign(status.counters.begin(), status.counters.end());
      sender_->set_report(std::move(report));
    }
    const std::scoped_lock lock(shared_.mutex);
    shared_.status = std::move(status);
  }

  Shared& shared_;
  const Clock& clock_;
  TransportContext& transport_;
  Mailbox<AcceptedBatch>& in_;
  Mailbox<Answers>& out_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Reader> reader_;
  Monitor monitor_;
  std::unique_ptr<Link> link_;
  std::optional<Sender> sender_;
  std::vector<AcceptedBatch> waiting_;
  Answers unsent_;
  MonoTime next_fold_{};
  MonoTime no_room_until_{};
  MonoTime next_maintenance_{};
  log::Limited warnings_;
  uint64_t detector_errors_ = 0;
  bool failed_ = false;
};

StoreThread::StoreThread(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}

Result<std::unique_ptr<StoreThread>> StoreThread::start(const StoreThreadConfig& config,
                                                        const Clock& clock,
                                                        TransportContext& transport,
                                                        Mailbox<AcceptedBatch>& in,
                                                        Mailbox<Answers>& out, OnFatal on_fatal) {
  auto shared = std::make_unique<Shared>();
  shared->config = config;
  shared->on_fatal = std::move(on_fatal);
  std::promise<Status> opened;
  auto result = opened.get_future();
  // The store is opened, used and closed on its own thread.
  shared->thread = std::thread([&opened, &clock, &transport, &in, &out, state = shared.get()] {
    Body body(*state, clock, transport, in, out);
    Status status = body.open();
    const bool run = status.ok();
    opened.set_value(std::move(status));  // start() returns: `opened` is gone from here on
    if (run) body.run();
  });
  Status status = result.get();
  if (!status.ok()) {
    shared->thread.join();
    return std::move(status).error();
  }
  return std::unique_ptr<StoreThread>(new StoreThread(std::move(shared)));
}

StoreThread::~StoreThread() {
  shared_->loop->stop();
  shared_->thread.join();
}

const std::vector<SeqRange>& StoreThread::held_here() const { return shared_->here; }

const std::vector<SeqRange>& StoreThread::held_at_last_tier() const { return shared_->last_tier; }

StoreStatus StoreThread::status() const {
  const std::scoped_lock lock(shared_->mutex);
  return shared_->status;
}

}  // namespace weir::aggregator
