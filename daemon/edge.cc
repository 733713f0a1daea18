#include "daemon/edge.h"

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include <fmt/core.h>

#include "common/crash_point.h"
#include "common/hash.h"
#include "common/own_metrics.h"

namespace weir::daemon {
namespace {

using std::chrono::seconds;

constexpr const char* kSchema = R"sql(
  CREATE TABLE IF NOT EXISTS source_position(
    name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
)sql";

constexpr uint64_t kHostSeed = 0x686f7374;  // never change it: it breaks ties between hosts

bool has(const Labels& labels, const std::string& name) {
  return std::ranges::find(labels, name, &Label::first) != labels.end();
}

// Both together; of one name, the former's.
Labels merged(Labels labels, const Labels& more) {
  for (const Label& label : more) {
    if (!has(labels, label.first)) labels.push_back(label);
  }
  std::ranges::sort(labels);
  return labels;
}

UplinkOptions uplink_options(const EdgeOptions& edge, const Labels& labels) {
  UplinkOptions out;
  out.offers.labels = labels;
  out.session.name = edge.host;
  out.session.tier = "edge";
  out.fence_after = edge.fence_after;
  return out;
}

}  // namespace

Status Edge::open_tables(Database& db, const EdgeOptions& options) {
  WEIR_TRY(db.exec(kSchema));
  WEIR_TRY_ASSIGN(Statement positions, db.prepare("SELECT name, position FROM source_position"));
  WEIR_TRY(positions.run());
  WEIR_TRY(Outbox::open(db, {.max_bytes = options.outbox_bytes, .source = options.source}));
  WEIR_TRY(WindowMarks::open(db, options.limits.window_s));
  return {};
}

Result<std::unique_ptr<Edge>> Edge::create(EdgeOptions options, EdgeParts parts) {
  WEIR_TRY(parts.db.exec(kSchema));
  WEIR_TRY_ASSIGN(Outbox outbox, Outbox::open(parts.db, {.max_bytes = options.outbox_bytes,
                                                         .source = options.source}));
  WEIR_TRY_ASSIGN(WindowMarks marks, WindowMarks::open(parts.db, options.limits.window_s));
  return std::unique_ptr<Edge>(
      new Edge(std::move(options), parts, std::move(outbox), std::move(marks)));
}

Edge::Edge(EdgeOptions options, EdgeParts parts, Outbox outbox, WindowMarks marks)
    : options_(std::move(options)),
      parts_(parts),
      host_label_({{"host", options_.host}}),
      common_labels_(merged(host_label_, options_.labels)),
      recorder_(options_.limits, parts.clock.now(), hash64(as_bytes(options_.host), kHostSeed)),
      outbox_(std::move(outbox)),
      marks_(std::move(marks)),
      uplink_(outbox_, uplink_options(options_, common_labels_)) {
  for (const EdgeUpstream& upstream : parts_.upstreams) {
    const size_t number = uplink_.add(upstream.endpoint, upstream.link);
    upstream.link.on_receive([this, number](ByteView header, ByteView body) {
      if (!in_doubt_) return;
      heard(uplink_.on_message(number, parts_.clock.mono(), parts_.clock.now(), header, body));
    });
  }
}

// What the disk did is then unknown, as after a flush that failed so.
void Edge::heard(const Status& status) {
  if (status) return;
  if (status.error().code == Errc::kIo) {
    in_doubt_ = Error(status.error()).with("outbox");
  } else {
    uplink_failures_.warn(parts_.clock.mono(), "upstream: {}", status.error().message);
  }
}

void Edge::add(std::unique_ptr<Source> source) { sources_.push_back(std::move(source)); }

Result<std::optional<uint64_t>> Edge::committed_position(const std::string& source) {
  WEIR_TRY_ASSIGN(Statement read,
                  parts_.db.prepare("SELECT position FROM source_position WHERE name = ?"));
  WEIR_TRY_ASSIGN(const bool known, read.bind(1, std::string_view(source)).step());
  if (!known) return std::optional<uint64_t>();
  return std::optional(read.unsigned_integer(0));
}

Status Edge::start() {
  const MonoTime now = parts_.clock.mono();
  next_drain_ = now + seconds(1);
  marks_.begin(parts_.clock.now(), now);
  plan_next_flush();
  for (auto& source : sources_) {
    WEIR_TRY_ASSIGN(const auto committed, committed_position(source->status().name));
    source->start({parts_.loop, parts_.worker, recorder_, parts_.clock, committed,
                   options_.disk_fault.empty()});
  }
  announced_.assign(sources_.size(), SourceState::kRunning);
  for (size_t i = 0; i < sources_.size(); ++i) announce(i, sources_[i]->status());
  // A first start's positions are durable before anything is measured against them. Those of a
  // later start stay: what was replayed is not in the outbox yet.
  WEIR_TRY(store_positions("INSERT OR IGNORE"));
  make_report();
  return {};
}

Status Edge::tick() {
  const MonoTime now = parts_.clock.mono();
  if (now >= next_drain_) {
    drain(Source::Drain::kRegular);
    const auto old = outbox_.drop_older_than(options_.outbox_age, now, "outbox_age");
    if (!old) heard(old.error());
    make_report();
    next_drain_ = std::max(next_drain_ + seconds(1), now);
  }
  if (flush_is_due()) WEIR_TRY(flush(Source::Drain::kRegular));
  WEIR_TRY(in_doubt_);
  heard(uplink_.tick(now, parts_.clock.now()));
  return in_doubt_;
}

bool Edge::flush_is_due() const {
  if (parts_.clock.mono() >= next_flush_) return true;
  if (unix_seconds(parts_.clock.now()) >= next_window_end_s_ + kGrace.count()) return true;
  return std::ranges::any_of(sources_, [](const auto& source) { return source->wants_commit(); });
}

void Edge::drain(Source::Drain drain) {
  const UnixTime now = parts_.clock.now();
  recorder_.advance(now);
  for (auto& source : sources_) source->drain(now, drain);
  drained_until_ = now;
}

// A flush takes every open window, ended or not: deltas merge, and the journals of sources then
// hold nothing that is not in the outbox.
Status Edge::flush(Source::Drain drain_kind) {
  WEIR_TRY(in_doubt_);
  drain(drain_kind);
  record_own_metrics();
  mark_windows(drain_kind);
  if (unix_seconds(parts_.clock.now()) >= next_window_end_s_ + kGrace.count()) {
    recorder_.end_window(UnixTime(seconds(next_window_end_s_ - 1)));
  }
  take_windows();
  std::vector<uint64_t> positions;
  for (const auto& source : sources_) positions.push_back(source->journal_position());
  if (const auto status = store(); status) {
    unstored_.clear();
    unstored_bytes_ = 0;
    marks_.saved();
    for (size_t i = 0; i < sources_.size(); ++i) sources_[i]->committed(positions[i]);
    report_.complete_until_s = unix_seconds(drained_until_);
    report_.complete_seq = last_seq_;
  } else if (status.error().code == Errc::kIo) {
    in_doubt_ = Error(status.error()).with("outbox: what was flushed last is in doubt");
    return in_doubt_;
  } else {
    store_failures_.error(parts_.clock.mono(), "outbox: {}; keeping {} KiB for the next try",
                          status.error().message, unstored_bytes_ >> 10);
    drop_excess();
  }
  make_report();
  plan_next_flush();
  return {};
}

// Windows end by the wall clock; should that be set back, a window's length of real time is the
// most anything waits.
void Edge::plan_next_flush() {
  const std::chrono::milliseconds longest = seconds(options_.limits.window_s) + 2 * kGrace;
  next_flush_ =
      parts_.clock.mono() + (options_.flush_every.count() > 0 ? options_.flush_every : longest);
  const int64_t flushed_s = unix_seconds(parts_.clock.now()) - kGrace.count();
  next_window_end_s_ = window_at(flushed_s, options_.limits.window_s).end_s();
}

void Edge::take_windows() {
  for (const int64_t start_s : recorder_.open_windows()) {
    std::vector<Delta> deltas = recorder_.take(start_s);
    for (Delta& delta : deltas) prune(delta.value);
    std::vector<BatchRow> rows;
    // A batch's common labels are on all of its rows, and no row has one of them itself: those that
    // would have two values of a configured label carry all of theirs, in batches of their own. A
    // mark tells of the host and nothing else, so upper tiers can add marks up.
    std::vector<BatchRow> exceptions;
    std::deque<Labels> labels;  // of all rows
    rows.reserve(deltas.size());
    for (const auto& delta : deltas) {
      const Metric& metric = recorder_.table().metric_of(delta.series);
      Labels& own = labels.emplace_back(recorder_.table().labels_of(delta.series));
      if (metric.name == kSourceWindows && !options_.labels.empty()) {
        exceptions.push_back({&metric, &own, &delta.value});
      } else if (std::ranges::none_of(options_.labels,
                                      [&](const Label& l) { return has(own, l.first); })) {
        rows.push_back({&metric, &own, &delta.value});
      } else {
        own = merged(std::move(own), options_.labels);
        exceptions.push_back({&metric, &own, &delta.value});
      }
    }
    const Window window{start_s, options_.limits.window_s};
    encode(window, common_labels_, rows);
    encode(window, host_label_, exceptions);
  }
}

void Edge::encode(const Window& window, const Labels& common, const std::vector<BatchRow>& rows) {
  for (auto& batch : encode_batches({window, common, {}}, rows)) {
    unstored_bytes_ += batch.body.size();
    unstored_.push_back({window, std::move(batch)});
  }
}

// All or nothing. On a full disk the oldest data makes room, more of it each time it was not
// enough.
Status Edge::store() {
  Status done = store_all(0);
  if (!done.ok() && done.error().code == Errc::kLimit) {
    store_failures_.error(parts_.clock.mono(), "outbox: {}; its oldest data makes room",
                          done.error().message);
    done = store_all(unstored_bytes_ << full_disk_);
    full_disk_ = std::min(full_disk_ + 1, 10U);
  }
  if (done.ok()) full_disk_ = 0;
  return done;
}

Status Edge::store_all(uint64_t bytes_first) {
  uint64_t seq = last_seq_;
  const bool budgeted = parts_.disk != nullptr;
  if (budgeted) {
    // In a transaction before: the budget counts pages that are free by then.
    if (bytes_first > 0) WEIR_TRY(outbox_.drop_oldest(bytes_first, "disk_full"));
    const Status room = parts_.disk->make_room(unstored_bytes_);
    if (bytes_first == 0) disk_full_ = room;
    WEIR_TRY(room);
  }
  Status done = parts_.db.transaction([&]() -> Status {
    if (bytes_first > 0 && !budgeted) WEIR_TRY(outbox_.drop_oldest(bytes_first, "disk_full"));
    for (const auto& [window, batch] : unstored_) {
      WEIR_TRY_ASSIGN(seq, outbox_.append(window, batch, uplink_.target()));
    }
    WEIR_TRY(marks_.save());
    WEIR_TRY(store_positions("INSERT OR REPLACE"));
    crash_point("edge.commit_before");
    return {};
  });
  if (!done.ok()) return done;
  crash_point("edge.commit_after");
  last_seq_ = seq;
  return {};
}

Status Edge::store_positions(const std::string& verb) {
  WEIR_TRY_ASSIGN(Statement write,
                  parts_.db.prepare(verb + " INTO source_position(name, position) VALUES(?, ?)"));
  for (const auto& source : sources_) {
    const std::string name = source->status().name;
    WEIR_TRY(write.bind(1, std::string_view(name)).bind(2, source->journal_position()).run());
  }
  return {};
}

// While the database cannot be written, the newest data is worth most.
void Edge::drop_excess() {
  size_t dropped = 0;
  while (unstored_bytes_ > kMaxUnstored) {
    dropped_failed_ += unstored_[dropped].batch.mass;
    unstored_bytes_ -= unstored_[dropped].batch.body.size();
    ++dropped;
  }
  unstored_.erase(unstored_.begin(), unstored_.begin() + static_cast<std::ptrdiff_t>(dropped));
}

// After the drain that takes the last of a window, which a regular one does a grace after its end.
void Edge::mark_windows(Source::Drain drain_kind) {
  const int64_t grace_s = drain_kind == Source::Drain::kFinal ? 0 : kGrace.count();
  const int64_t ended_by_s = unix_seconds(drained_until_) - grace_s;
  const Metric metric{kSourceWindows, Kind::kCounter, "", 0};
  for (const Window& window : marks_.due(ended_by_s, drained_until_, parts_.clock.mono())) {
    const UnixTime last{seconds(window.end_s() - 1)};
    recorder_.advance(last);  // never too late to say so
    const auto series = recorder_.series(metric, {});
    if (!series) break;
    recorder_.count(*series, last, 1);
  }
  recorder_.advance(drained_until_);
}

Status Edge::stop() {
  Status done;
  // A full journal lets the rest in only after a commit: a few rounds empty the sockets.
  for (int round = 0; round < 4; ++round) {
    done = flush(Source::Drain::kFinal);
    if (!done) break;
    const bool more =
        std::ranges::any_of(sources_, [](const auto& source) { return source->wants_commit(); });
    if (!more) break;
  }
  for (auto& source : sources_) source->stop();
  const auto stats = outbox_.stats();
  if (stats) {
    log::info("stopped: {} samples pushed, {} at the last tier, {} batches wait in the outbox",
              stats->pushed_mass, stats->acked_mass(), stats->rows);
  }
  if (done && !unstored_.empty()) {
    uint64_t lost = 0;
    for (const auto& [window, batch] : unstored_) lost += batch.mass;
    return Error{Errc::kUnavailable, fmt::format("outbox: {} samples could not be stored", lost)};
  }
  return done;
}

}  // namespace weir::daemon
