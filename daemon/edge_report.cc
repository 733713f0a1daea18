// What an edge tells about itself: its own metrics, as data, and the report of its PINGs.

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <fmt/core.h>

#include "daemon/edge.h"

namespace weir::daemon {
namespace {

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

Edge::Counters Edge::own_counters() const {
  const Recorder::Drops& drops = recorder_.drops();
  const UplinkStats upstream = uplink_.stats();
  uint64_t bad_frames = 0;
  for (const EdgeUpstream& one : parts_.upstreams) bad_frames += one.link.bad_frame_count();
  return {{R"(weir_dropped_total{where="recorder",reason="late"})", drops.late},
          {R"(weir_dropped_total{where="recorder",reason="ahead"})", drops.ahead},
          {R"(weir_dropped_total{where="recorder",reason="refused"})", drops.refused},
          {R"(weir_dropped_total{where="outbox",reason="failed"})", dropped_failed_},
          {R"(weir_dropped_total{where="recorder",reason="unfolded"})", drops.unfolded},
          {"weir_series_overflow_total", drops.overflowed},
          {"weir_series_evicted_total", drops.evicted},
          {"weir_upstream_sent_total", upstream.sent},
          {"weir_upstream_resent_total", upstream.resent},
          {"weir_upstream_nacked_total", upstream.nacked},
          {"weir_upstream_bad_messages_total", upstream.bad_messages + bad_frames}};
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
    report_.counters.emplace_back("weir_outbox_acked_mass_total", stats->acked_mass());
    report_.counters.emplace_back("weir_outbox_quarantined_total", stats->quarantined);
  }
  report_upstreams();
  report_disk();
  uplink_.set_report(report_);
}

// As one more collector: what is wrong with it, and what to do.
void Edge::report_disk() {
  const auto add = [&](SourceState state, const std::string& reason, const char* fix) {
    report_.collectors.push_back({"disk", static_cast<uint8_t>(state), reason, fix});
  };
  if (parts_.disk == nullptr) {
    if (!options_.disk_fault.empty()) {
      add(SourceState::kDegraded, "the outbox is in memory: " + options_.disk_fault,
          "make data_dir writable, with free space, and restart");
    }
    return;
  }
  if (!disk_full_) {
    add(SourceState::kDegraded, disk_full_.error().message,
        "free space on the disk of data_dir, or lower limits.disk_reserve");
  }
  const auto usage = parts_.disk->usage();
  if (!usage) return;
  for (auto& counter : counters_of(*usage)) report_.counters.push_back(std::move(counter));
}

void Edge::report_upstreams() {
  const auto add = [&](std::string name, uint64_t value) {
    report_.counters.emplace_back(std::move(name), value);
  };
  const UplinkStats stats = uplink_.stats();
  for (const UpstreamStats& one : stats.upstreams) {
    const auto of = [&](const char* name) {
      return fmt::format("weir_upstream_{}{{upstream=\"{}\"}}", name, one.endpoint);
    };
    add(of("connected"), one.session.connected ? 1 : 0);
    add(of("active"), one.active ? 1 : 0);
    add(of("credit_bytes"), one.session.credit_bytes);
    if (one.session.clock_offset) {
      const auto ms = *one.session.clock_offset / std::chrono::milliseconds(1);
      add(of(ms < 0 ? "clock_ahead_ms" : "clock_behind_ms"), static_cast<uint64_t>(std::abs(ms)));
    }
  }
  add("weir_upstream_failovers_total", stats.failovers);
  add("weir_upstream_fenced_total", stats.fenced_targets);
  const auto outbox = outbox_.stats();
  const auto losses = outbox_.losses();
  if (!outbox || !losses) return;  // said where the outbox is used
  const int64_t now_s = unix_seconds(parts_.clock.now());
  const int64_t age_s = outbox->oldest_data_s == 0 ? 0 : now_s - outbox->oldest_data_s;
  add("weir_outbox_oldest_age_seconds", static_cast<uint64_t>(std::max<int64_t>(age_s, 0)));
  add("weir_outbox_acked_lost_mass_total", outbox->acked_lost_mass);
  add("weir_outbox_tombstones", outbox->tombstones);
  for (const auto& [reason, loss] : *losses) {
    add(fmt::format("weir_outbox_tombstones_total{{reason=\"{}\"}}", reason), loss.rows);
  }
}

}  // namespace weir::daemon
