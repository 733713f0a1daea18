#include "aggregator/aggregator.h"

#include <algorithm>
#include <mutex>
#include <optional>

#include "aggregator/http/server.h"
#include "aggregator/intake.h"
#include "aggregator/store/reader.h"
#include "aggregator/store_thread.h"
#include "common/data_dir.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/transport.h"
#include "common/version.h"

namespace weir::aggregator {
namespace {

constexpr size_t kBatchesToStore = 8192;  // Intake bounds their bytes
constexpr size_t kAnswersWaiting = 1024;
constexpr std::chrono::milliseconds kPublishEvery{250};
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kGoodbye{200};  // to leave, on the way out

}  // namespace

// Destroyed from the bottom: first nobody asks, then nobody sends, then the store closes.
struct Aggregator::State {
  State(const Config& c, const Clock& k, Loop& l) : config(c), clock(k), loop(l) {}

  void publish();

  [[nodiscard]] Instant now() const { return {clock.now(), clock.mono()}; }

  [[nodiscard]] TierStatus status() const;

  [[nodiscard]] Result<std::unique_ptr<Reader>> open_reader() const {
    return Reader::open(config.data_dir + "/weir.db", config.tier, clock);
  }

  Config config;
  const Clock& clock;
  Loop& loop;
  int64_t started_s = 0;
  Fd lock;
  TransportContext transport;
  Mailbox<StoreRequest> to_store{kBatchesToStore};
  Mailbox<Answers> from_store{kAnswersWaiting};

  mutable std::mutex mutex;
  std::optional<Error> fatal;                // under mutex
  std::vector<SeenSource> sources;           // under mutex
  std::map<std::string, uint64_t> counters;  // under mutex

  std::optional<KeyPair> keys;
  std::unique_ptr<AllowList> allow;
  std::unique_ptr<StoreThread> store;
  std::unique_ptr<Door> door;
  std::optional<Intake> intake;
  std::vector<Loop::EntryId> entries;
  std::unique_ptr<HttpServer> http;
};

void Aggregator::State::publish() {
  auto seen = intake->sources();
  auto counted = intake->counters();
  counted.merge(door->counters());
  counted["weir_transport_bad_frames_total"] = door->bad_frame_count();
  if (allow) {
    counted["weir_allow_list_keys"] = allow->size();
    counted["weir_allow_list_bad_files_total"] = allow->bad_files();
  }
  counted["weir_intake_bytes_at_store"] = intake->bytes_at_store();
  counted["weir_store_queue_refused_total"] = to_store.refused();
  const std::scoped_lock guard(mutex);
  sources = std::move(seen);
  counters = std::move(counted);
}

TierStatus Aggregator::State::status() const {
  StoreStatus stored = store->status();
  TierStatus out;
  out.tier = config.tier.kind;
  out.name = config.tier.name;
  out.version = kVersion;
  out.now_s = unix_seconds(clock.now());
  out.started_s = started_s;
  out.has_upstream = !config.tier.last();
  out.upstream = stored.upstream;
  out.outbox = stored.outbox;
  out.ledger = std::move(stored.ledger);
  out.widths = std::move(stored.widths);
  out.inbox_rows = stored.inbox_rows;
  out.inbox_bytes = stored.inbox_bytes;
  out.counters = std::move(stored.counters);
  const std::scoped_lock guard(mutex);
  out.sources = sources;
  out.counters.insert(counters.begin(), counters.end());
  return out;
}

Aggregator::Aggregator(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Aggregator>> Aggregator::start(const Config& config, const Clock& clock,
                                                      Loop& loop) {
  std::unique_ptr<Aggregator> out(new Aggregator(std::make_unique<State>(config, clock, loop)));
  State& s = *out->state_;
  s.started_s = unix_seconds(clock.now());
  WEIR_TRY_ASSIGN(s.lock, lock_data_dir(config.data_dir));

  DoorOptions door;
  LinkOptions link;
  if (!config.keys.dir.empty()) {
    const Role role = parse_role(config.tier.kind).value_or(Role::kRegion);
    WEIR_TRY_ASSIGN(s.keys, KeyPair::load_for(config.keys.dir, role));
    WEIR_TRY_ASSIGN(s.allow, AllowList::open(config.keys.allow, loop, clock));
    door = {.keys = &*s.keys, .allow = s.allow.get(), .clock = &clock};
    if (!config.upstream_keys.empty()) link = {&*s.keys, config.upstream_keys};
  }

  StoreThreadConfig store{.path = config.data_dir + "/weir.db",
                          .tier = config.tier,
                          .store = {.disk = config.disk,
                                    .limits = config.limits,
                                    .catalog_rows = config.catalog_rows,
                                    .outbox_max_bytes = config.outbox_bytes,
                                    .inbox_max_bytes = config.inbox_bytes,
                                    .lives = config.lives},
                          .fences = config.fences,
                          .link = std::move(link)};
  if (s.keys) store.store.source = s.keys->line().owner.source;
  const auto on_fatal = [&s](const Error& error) {
    {
      const std::scoped_lock guard(s.mutex);
      s.fatal = error;
    }
    s.loop.stop();
  };
  WEIR_TRY_ASSIGN(
      s.store, StoreThread::start(store, clock, s.transport, s.to_store, s.from_store, on_fatal));

  WEIR_TRY_ASSIGN(s.door, bind_door(s.transport, loop, config.listen, door));
  IntakeLimits limits;
  limits.kind = config.tier.kind;
  limits.source = s.store->source();
  limits.epoch = s.store->epoch();
  limits.window_width_s = config.tier.in_s;
  // What would be erased as soon as it was stored is refused instead, and counted.
  limits.max_age_s = std::min(limits.max_age_s, config.tier.keep_out_s);
  s.intake.emplace(*s.door, limits,
                   [&s](StoreRequest&& request) { return s.to_store.push(std::move(request)); });
  s.intake->restore(s.store->held_here(), s.store->held_at_last_tier());
  s.door->on_receive(
      [&s](const PeerId& peer, const std::optional<Identity>& identity, ByteView header,
           ByteView body) { s.intake->on_message(s.now(), peer, identity, header, body); });
  s.entries.push_back(loop.on_readable(s.from_store.fd(), [&s] {
    for (const Answers& answers : s.from_store.drain()) s.intake->committed(answers);
  }));
  s.entries.push_back(loop.every(kTick, [&s] { s.intake->tick(s.now()); }));
  s.entries.push_back(loop.every(kPublishEvery, [&s] { s.publish(); }));
  s.publish();

  HttpConfig http;
  http.listen = config.http;
  const HttpHooks hooks{
      .status = [&s] { return s.status(); },
      .open_source = [&s]() -> Result<std::unique_ptr<DataSource>> {
        WEIR_TRY_ASSIGN(auto reader, s.open_reader());
        return std::unique_ptr<DataSource>(std::move(reader));
      },
      // Asked for rarely: a connection of its own each time keeps it free of threads.
      .anomalies = [&s](int64_t from_s, int64_t to_s,
                        size_t limit) -> Result<std::vector<Anomaly>> {
        WEIR_TRY_ASSIGN(auto reader, s.open_reader());
        return reader->anomalies(from_s, to_s, limit);
      }};
  WEIR_TRY_ASSIGN(s.http, HttpServer::start(http, clock, hooks));
  log::info("{} {}: listening on {}, http port {}, windows {}s to {}s, upstream {}",
            config.tier.kind, config.tier.name, s.door->endpoint(), s.http->port(),
            config.tier.in_s, config.tier.out_s,
            config.tier.last() ? "none" : config.tier.upstream);
  log::info("{} {} is source {}", config.tier.kind, config.tier.name, uuid_text(s.store->source()));
  return out;
}

Aggregator::~Aggregator() {
  if (!state_) return;
  state_->http.reset();
  for (const auto entry : state_->entries) state_->loop.remove(entry);
}

Status Aggregator::run() {
  state_->loop.run();
  state_->door->linger(kGoodbye);
  state_->intake->say_goodbye();
  const std::scoped_lock guard(state_->mutex);
  if (state_->fatal) return *state_->fatal;
  return {};
}

void Aggregator::stop() { state_->loop.stop(); }

void Aggregator::reload() {
  if (state_->allow) state_->allow->reload();
}

void Aggregator::set_policy(const Config& config) {
  state_->store->set_policy(config.limits, config.fences);
}

std::string Aggregator::endpoint() const { return state_->door->endpoint(); }

uint16_t Aggregator::http_port() const { return state_->http->port(); }

TierStatus Aggregator::status() const { return state_->status(); }

}  // namespace weir::aggregator
