#include "daemon/edge.h"

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include <fmt/core.h>

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

// "name{a=\"b\",c=\"d\"}" (daemon/source.h) into its name and labels; views into `text`.
std::string_view split_series(std::string_view text, std::vector<LabelView>& labels) {
  const size_t brace = text.find('{');
  const std::string_view name = text.substr(0, brace);
  while (brace != std::string_view::npos && !text.empty()) {
    const size_t begin = text.find_first_of("{,");
    if (begin == std::string_view::npos) break;
    text.remove_prefix(begin + 1);
    const size_t equals = text.find("=\"");
    if (equals == std::string_view::npos) break;
    const std::string_view label = text.substr(0, equals);
    text.remove_prefix(equals + 2);
    const size_t quote = text.find('"');
    labels.push_back({label, text.substr(0, quote)});
    text.remove_prefix(std::min(text.size(), quote));
  }
  return name;
}

}  // namespace

Result<std::unique_ptr<Edge>> Edge::create(EdgeOptions options, EdgeParts parts) {
  WEIR_TRY(parts.db.exec(kSchema));
  WEIR_TRY_ASSIGN(Outbox outbox, Outbox::open(parts.db, options.outbox_bytes));
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
      sender_(outbox_, parts.link,
              {.type = FrameType::kData, .compress = true, .name = options_.host, .tier = "edge"}) {
  parts_.link.on_receive([this](ByteView header, ByteView body) {
    const auto status = sender_.on_message(parts_.clock.mono(), header, body);
    if (!status) {
      sender_failures_.warn(parts_.clock.mono(), "upstream: {}", status.error().message);
    }
  });
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
    source->start({parts_.loop, parts_.worker, recorder_, parts_.clock, committed});
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
    make_report();
    next_drain_ = std::max(next_drain_ + seconds(1), now);
  }
  if (flush_is_due()) WEIR_TRY(flush(Source::Drain::kRegular));
  if (const auto status = sender_.tick(now, parts_.clock.now()); !status) {
    sender_failures_.warn(now, "upstream: {}", status.error().message);
  }
  return {};
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

// All or nothing, but for batches that a full outbox has no room for: those are lost and counted.
Status Edge::store() {
  uint64_t full = 0;
  uint64_t seq = last_seq_;
  Status done = parts_.db.transaction([&]() -> Status {
    for (const auto& [window, batch] : unstored_) {
      WEIR_TRY_ASSIGN(const bool room, outbox_.has_room(batch.body.size()));
      if (!room) {
        full += batch.mass;
        continue;
      }
      WEIR_TRY_ASSIGN(seq, outbox_.append(window, batch));
    }
    WEIR_TRY(marks_.save());
    return store_positions("INSERT OR REPLACE");
  });
  if (!done.ok()) return done;
  last_seq_ = seq;
  dropped_full_ += full;
  if (full > 0) {
    store_failures_.error(parts_.clock.mono(), "outbox full: {} samples dropped (limits.outbox)",
                          full);
  }
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

// Weir's own metrics take the path of everything else.
void Edge::record_own_metrics() {
  for (const auto& source : sources_) {
    const SourceStatus status = source->status();
    const std::array<LabelView, 1> labels{LabelView{"source", status.name}};
    const Metric up{"weir_source_up", Kind::kGauge, "", 0};
    if (const auto series = recorder_.series(up, labels)) {
      recorder_.gauge(*series, drained_until_, status.state == SourceState::kUnavailable ? 0 : 1);
    }
    for (const auto& [name, value] : status.counters) record_counter(name, value);
  }
  for (const auto& [name, value] : own_counters()) record_counter(name, value);
  record_limits("no", recorder_.limiter().counts());
  record_limits("yes", recorder_.limiter().dry_run_counts());
}

void Edge::record_limits(const std::string& dry_run, const LimitCounts& counts) {
  const auto record = [&](const char* limit, uint64_t value) {
    if (value == 0) return;
    record_counter(
        fmt::format(R"(weir_series_limited_total{{limit="{}",dry_run="{}"}})", limit, dry_run),
        value);
  };
  record("labels", counts.many_labels);
  record("text", counts.cut_texts);
  record("values_per_label", counts.other_values);
  record("series_per_metric", counts.metric_full);
  record("series", counts.table_full);
  record("metrics", counts.other_metrics);
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

Edge::Counters Edge::own_counters() const {
  const Recorder::Drops& drops = recorder_.drops();
  const SenderStats& upstream = sender_.stats();
  return {
      {R"(weir_dropped_total{where="recorder",reason="late"})", drops.late},
      {R"(weir_dropped_total{where="recorder",reason="ahead"})", drops.ahead},
      {R"(weir_dropped_total{where="recorder",reason="refused"})", drops.refused},
      {R"(weir_dropped_total{where="outbox",reason="full"})", dropped_full_},
      {R"(weir_dropped_total{where="outbox",reason="failed"})", dropped_failed_},
      {R"(weir_dropped_total{where="recorder",reason="unfolded"})", drops.unfolded},
      {"weir_series_overflow_total", drops.overflowed},
      {"weir_series_evicted_total", drops.evicted},
      {"weir_upstream_sent_total", upstream.sent},
      {"weir_upstream_resent_total", upstream.resent},
      {"weir_upstream_nacked_total", upstream.nacked},
      {"weir_upstream_bad_messages_total", upstream.bad_messages + parts_.link.bad_frame_count()}};
}

void Edge::record_counter(const std::string& name, uint64_t value) {
  const auto [it, fresh] = exported_.try_emplace(name, 0);
  if (!fresh && it->second == value) return;
  std::vector<LabelView> labels;
  const Metric metric{std::string(split_series(name, labels)), Kind::kCounter, "", 0};
  const auto series = recorder_.series(metric, labels);
  if (!series) return;  // the series limit: it is in the overflow counter
  recorder_.count(*series, drained_until_, value - it->second);
  it->second = value;
}

void Edge::announce(size_t index, const SourceStatus& status) {
  if (announced_[index] == status.state) return;
  announced_[index] = status.state;
  if (status.state == SourceState::kRunning) {
    log::info("{}: running", status.name);
  } else {
    log::warn("{}: {}: {}; {}", status.name, state_name(status.state), status.reason, status.fix);
  }
}

void Edge::make_report() {
  report_.name = options_.host;
  report_.tier = "edge";
  report_.collectors.clear();
  report_.counters.clear();
  for (size_t i = 0; i < sources_.size(); ++i) {
    SourceStatus status = sources_[i]->status();
    announce(i, status);
    report_.collectors.push_back(
        {status.name, static_cast<uint8_t>(status.state), status.reason, status.fix});
    for (auto& counter : status.counters) report_.counters.push_back(std::move(counter));
  }
  report_.counters.emplace_back("weir_series", recorder_.table().size());
  for (auto& counter : own_counters()) report_.counters.push_back(std::move(counter));
  if (const auto stats = outbox_.stats()) {
    report_.counters.emplace_back("weir_outbox_bytes", stats->bytes);
    report_.counters.emplace_back("weir_outbox_rows", stats->rows);
    report_.counters.emplace_back("weir_outbox_pushed_mass_total", stats->pushed_mass);
    report_.counters.emplace_back("weir_outbox_acked_mass_total", stats->acked_mass);
    report_.counters.emplace_back("weir_outbox_quarantined_total", stats->quarantined);
  }
  sender_.set_report(report_);
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
              stats->pushed_mass, stats->acked_mass, stats->rows);
  }
  if (done && !unstored_.empty()) {
    uint64_t lost = 0;
    for (const auto& [window, batch] : unstored_) lost += batch.mass;
    return Error{Errc::kUnavailable, fmt::format("outbox: {} samples could not be stored", lost)};
  }
  return done;
}

}  // namespace weir::daemon
