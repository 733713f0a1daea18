#include "aggregator/store_thread.h"

#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "common/loop.h"

namespace weir::aggregator {
namespace {

constexpr std::chrono::milliseconds kTick{100};

}  // namespace

// What both threads see.
struct StoreThread::Shared {
  StoreThreadConfig config;
  OnFatal on_fatal;
  std::thread thread;
  SourceId source{};
  uint64_t epoch = 0;
  std::vector<SeqRange> here;
  std::vector<SeqRange> last_tier;
  mutable std::mutex mutex;
  Loop* loop = nullptr;                                  // under mutex; while the thread runs it
  StoreStatus status;                                    // under mutex
  std::optional<std::pair<Limits, FencePolicy>> policy;  // under mutex; to be set
};

// Everything that lives on the store thread: the driver, its loop and its mailboxes.
class StoreThread::Body {
 public:
  Body(Shared& shared, const Clock& clock, TransportContext& transport, Mailbox<StoreRequest>& in,
       Mailbox<Answers>& out)
      : shared_(shared), clock_(clock), transport_(transport), in_(in), out_(out) {}

  Status open() {
    const StoreThreadConfig& config = shared_.config;
    WEIR_TRY_ASSIGN(loop_, Loop::create());
    std::vector<UpwardLink> links;
    if (!config.tier.last()) {
      WEIR_TRY_ASSIGN(link_, connect_link(transport_, *loop_, config.tier.upstream, config.link));
      links.push_back({config.tier.upstream, link_.get()});
    }
    WEIR_TRY_ASSIGN(
        driver_, StoreDriver::open(config, clock_, links,
                                   [this](const Answers& answers) { return out_.push(answers); }));
    shared_.source = driver_->source();
    shared_.epoch = driver_->epoch();
    shared_.here = driver_->held_here();
    shared_.last_tier = driver_->held_at_last_tier();
    loop_->on_readable(in_.fd(), [this] {
      driver_->take(in_.drain());
      check();
    });
    loop_->every(kTick, [this] {
      take_policy();
      driver_->tick();
      publish();
      check();
    });
    publish();
    const std::scoped_lock lock(shared_.mutex);
    shared_.loop = loop_.get();
    return {};
  }

  // Until stop(), or a store that failed.
  void run() {
    loop_->run();
    const std::scoped_lock lock(shared_.mutex);
    shared_.loop = nullptr;
  }

 private:
  void check() {
    if (!driver_->failed() || std::exchange(told_, true)) return;
    shared_.on_fatal(*driver_->failed());
    loop_->stop();
  }

  void take_policy() {
    const std::scoped_lock lock(shared_.mutex);
    if (!shared_.policy) return;
    driver_->set_policy(shared_.policy->first, shared_.policy->second);
    shared_.policy.reset();
  }

  void publish() {
    const std::scoped_lock lock(shared_.mutex);
    shared_.status = driver_->status();
  }

  Shared& shared_;
  const Clock& clock_;
  TransportContext& transport_;
  Mailbox<StoreRequest>& in_;
  Mailbox<Answers>& out_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Link> link_;
  std::unique_ptr<StoreDriver> driver_;
  bool told_ = false;
};

StoreThread::StoreThread(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}

Result<std::unique_ptr<StoreThread>> StoreThread::start(const StoreThreadConfig& config,
                                                        const Clock& clock,
                                                        TransportContext& transport,
                                                        Mailbox<StoreRequest>& in,
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
  {
    const std::scoped_lock lock(shared_->mutex);
    if (shared_->loop != nullptr) shared_->loop->stop();
  }
  shared_->thread.join();
}

void StoreThread::set_policy(const Limits& limits, const FencePolicy& fences) {
  const std::scoped_lock lock(shared_->mutex);
  shared_->policy.emplace(limits, fences);
}

const SourceId& StoreThread::source() const { return shared_->source; }

uint64_t StoreThread::epoch() const { return shared_->epoch; }

const std::vector<SeqRange>& StoreThread::held_here() const { return shared_->here; }

const std::vector<SeqRange>& StoreThread::held_at_last_tier() const { return shared_->last_tier; }

StoreStatus StoreThread::status() const {
  const std::scoped_lock lock(shared_->mutex);
  return shared_->status;
}

}  // namespace weir::aggregator
