// /api/v1/alerts, /api/v1/status/*, /metrics: what the tier says of itself.

#include <chrono>

#include <fmt/format.h>

#include "aggregator/http/handlers.h"
#include "aggregator/http/params.h"
#include "aggregator/http/render.h"
#include "aggregator/query/lexer.h"
#include "aggregator/query/matcher.h"
#include "common/time_text.h"

namespace weir::aggregator {
namespace {

constexpr size_t kDefaultAlerts = 1000;
constexpr size_t kMaxAlerts = 10'000;

void write_alert(JsonWriter& json, const Anomaly& anomaly) {
  json.begin_object().key("labels").begin_object();
  json.text("alertname", "WeirAnomaly").text("detector", anomaly.detector);
  json.text("severity", "none").text("signal", anomaly.signal);
  for (const auto& [name, value] : anomaly.labels) json.text(name, value);
  json.end_object().key("annotations").begin_object().text("summary", anomaly.summary).end_object();
  json.text("state", "firing").text("activeAt", rfc3339(anomaly.window.end_s()));
  json.text("value", sample_text(anomaly.value));
  // Beyond Prometheus: what the detector expected, how far off it is, and the window.
  json.key("weir").begin_object().text("expected", sample_text(anomaly.expected));
  json.text("score", sample_text(anomaly.score)).integer("window_start", anomaly.window.start_s);
  json.natural("window_s", anomaly.window.width_s).end_object().end_object();
}

std::string id_text(const SourceId& id) {
  std::string text;
  for (const auto byte : id) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

std::string_view collector_state_text(uint8_t state) {
  static constexpr std::array<std::string_view, 4> kStates = {"unknown", "running", "degraded",
                                                              "unavailable"};
  return kStates[state < kStates.size() ? state : 0];
}

void write_source(JsonWriter& json, const SeenSource& source) {
  json.begin_object().text("id", id_text(source.id)).natural("epoch", source.epoch);
  json.text("name", source.report.name).text("tier", source.report.tier);
  json.integer("last_seen", unix_seconds(source.last_seen)).natural("batches", source.batches);
  json.natural("mass", source.mass).natural("score", source.score);
  json.integer("clock_offset_ms", source.clock_offset_ns / 1'000'000);
  json.integer("complete_until", source.report.complete_until_s);
  json.key("collectors").begin_array();
  for (const auto& collector : source.report.collectors) {
    json.begin_object().text("name", collector.name);
    json.text("state", collector_state_text(collector.state));
    json.text("reason", collector.reason).text("fix", collector.fix).end_object();
  }
  json.end_array().key("counters").begin_object();
  for (const auto& [name, value] : source.report.counters) json.natural(name, value);
  json.end_object().end_object();
}

void write_upstream(JsonWriter& json, const TierStatus& status) {
  const UplinkStats& up = status.upstream;
  json.key("upstream").begin_object().truth("configured", status.has_upstream);
  json.truth("connected", up.connected).natural("sent", up.sent);
  json.natural("resent", up.resent).natural("acked_r", up.acked_r);
  json.natural("acked_g", up.acked_g).natural("nacked", up.nacked);
  json.natural("quarantined", up.quarantined).natural("rollups_refused", up.rollups_refused);
  json.natural("in_flight_bytes", up.in_flight_bytes);
  json.text("last_refusal", up.last_refusal).end_object();
  json.key("outbox").begin_object().natural("rows", status.outbox.rows);
  json.natural("bytes", status.outbox.bytes).natural("pushed_mass", status.outbox.pushed_mass);
  json.natural("acked_mass", status.outbox.acked_mass());
  json.natural("outbox_mass", status.outbox.outbox_mass);
  json.natural("quarantined", status.outbox.quarantined).end_object();
}

void write_ledger(JsonWriter& json, const LedgerStatus& ledger) {
  json.key("ledger").begin_object().natural("sources", ledger.sources);
  json.natural("unbalanced", ledger.unbalanced).natural("imbalance", ledger.imbalance);
  json.key("worst").begin_array();
  for (const LedgerStatus::Source& source : ledger.worst) {
    json.begin_object().text("id", id_text(source.id));
    json.natural("imbalance", source.imbalance).end_object();
  }
  json.end_array().natural("gapped", ledger.gapped).natural("gaps", ledger.gaps);
  json.key("most_gaps").begin_array();
  for (const Accounts::Gaps& one : ledger.most_gaps) {
    json.begin_object().text("id", id_text(one.source)).natural("gaps", one.gaps).end_object();
  }
  json.end_array().end_object();
}

void write_status(JsonWriter& json, const TierStatus& status) {
  json.begin_object().text("tier", status.tier).text("name", status.name);
  json.text("version", status.version).integer("now", status.now_s);
  json.integer("started", status.started_s);
  write_upstream(json, status);
  if (!status.has_upstream) write_ledger(json, status.ledger);
  json.key("widths").begin_array();
  for (const auto& width : status.widths) {
    json.begin_object().natural("width_s", width.width_s);
    json.integer("newest_start", width.newest_start_s);
    json.integer("closed_until", width.closed_until_s).natural("windows", width.windows);
    json.natural("blocks", width.blocks).natural("bytes", width.bytes).end_object();
  }
  json.end_array().key("inbox").begin_object().natural("rows", status.inbox_rows);
  json.natural("bytes", status.inbox_bytes).end_object().key("sources").begin_array();
  for (const auto& source : status.sources) write_source(json, source);
  json.end_array().key("counters").begin_object();
  for (const auto& [name, value] : status.counters) json.natural(name, value);
  json.end_object().end_object();
}

// The text format of Prometheus: one TYPE line per metric name, then its series.
class MetricsText {
 public:
  void add(std::string_view series, double value) {
    const auto name = series.substr(0, series.find('{'));
    const bool counter = name.ends_with("_total");
    auto& lines = names_[std::string(name)];
    if (lines.empty()) lines = fmt::format("# TYPE {} {}\n", name, counter ? "counter" : "gauge");
    lines += fmt::format("{} {}\n", series, sample_text(value));
  }

  void add(std::string_view series, uint64_t value) { add(series, static_cast<double>(value)); }

  [[nodiscard]] std::string text() const {
    std::string out;
    for (const auto& [name, lines] : names_) out += lines;
    return out;
  }

 private:
  std::map<std::string, std::string> names_;
};

std::string metrics_text(const TierStatus& status, const ApiContext& context) {
  MetricsText metrics;
  for (const auto& [name, value] : status.counters) metrics.add(name, value);
  for (const auto& [name, value] : context.http_counters) metrics.add(name, value);
  metrics.add("weir_start_time_seconds", static_cast<double>(status.started_s));
  metrics.add("weir_sources", uint64_t{status.sources.size()});
  metrics.add("weir_inbox_rows", status.inbox_rows);
  metrics.add("weir_inbox_bytes", status.inbox_bytes);
  metrics.add("weir_outbox_rows", status.outbox.rows);
  metrics.add("weir_outbox_bytes", status.outbox.bytes);
  metrics.add("weir_outbox_quarantined_total", status.outbox.quarantined);
  if (status.has_upstream) {
    metrics.add("weir_upstream_connected", uint64_t{status.upstream.connected ? 1U : 0U});
    metrics.add("weir_upstream_sent_total", status.upstream.sent);
    metrics.add("weir_upstream_resent_total", status.upstream.resent);
    metrics.add("weir_upstream_nacked_total", status.upstream.nacked);
  }
  // Of the worst only, and of nobody while all is well.
  const auto of_source = [](std::string_view name, const SourceId& id) {
    return fmt::format("{}{{source=\"{}\"}}", name, id_text(id));
  };
  for (const LedgerStatus::Source& source : status.ledger.worst) {
    metrics.add(of_source("weir_source_imbalance", source.id), source.imbalance);
  }
  for (const Accounts::Gaps& one : status.ledger.most_gaps) {
    metrics.add(of_source("weir_source_gaps", one.source), one.gaps);
  }
  for (const auto& width : status.widths) {
    const auto series = [&](std::string_view name) {
      return fmt::format("{}{{width=\"{}\"}}", name, width.width_s);
    };
    metrics.add(series("weir_store_windows"), width.windows);
    metrics.add(series("weir_store_blocks"), width.blocks);
    metrics.add(series("weir_store_bytes"), width.bytes);
    metrics.add(series("weir_closed_until_seconds"), static_cast<double>(width.closed_until_s));
  }
  return metrics.text();
}

}  // namespace

ApiResponse answer_alerts(const ApiRequest& request, const ApiContext& context) {
  // Without start and end: what is happening now, and a day back.
  const int64_t now_ms = unix_seconds(context.now) * 1000;
  const auto end = time_field(request.fields, "end", now_ms);
  if (!end) return bad_data(end.error());
  const auto start = time_field(request.fields, "start", *end - 24 * kDefaultSpanMs);
  if (!start) return bad_data(start.error());
  const auto limit = limit_field(request.fields, kDefaultAlerts);
  if (!limit) return bad_data(limit.error());
  std::vector<Anomaly> anomalies;
  bool cut_short = false;  // by the store's own limit
  if (context.anomalies) {
    auto found = context.anomalies(*start / 1000, *end / 1000, kMaxAlerts);
    if (!found) return failed(found.error());
    anomalies = *std::move(found);
    cut_short = anomalies.size() == kMaxAlerts;
  }
  if (const auto* service = find_field(request.fields, "service")) {
    std::erase_if(anomalies, [&](const Anomaly& one) {
      return label_value(one.labels, "service") != *service;
    });
  }
  QueryNotes notes;
  if (cut_short || anomalies.size() > *limit) {
    notes.warnings.insert("results truncated due to limit: older ones are left out");
    anomalies.resize(std::min(*limit, anomalies.size()));
  }
  JsonWriter json = success();
  json.begin_object().key("alerts").begin_array();
  for (const auto& anomaly : anomalies) write_alert(json, anomaly);
  json.end_array().end_object();
  write_notes(json, notes);
  return finish(std::move(json));
}

ApiResponse answer_status(const ApiContext& context) {
  JsonWriter json = success();
  write_status(json, context.status ? context.status() : TierStatus{});
  return finish(std::move(json));
}

ApiResponse answer_build_information() {
  // Grafana asks the version before it uses match[] on labels (2.24 and later).
  JsonWriter json = success();
  json.begin_object().text("version", "2.42.0").text("revision", "weir").text("branch", "weir");
  json.text("buildUser", "").text("buildDate", "").text("goVersion", "").end_object();
  return finish(std::move(json));
}

ApiResponse answer_metrics(const ApiContext& context) {
  const TierStatus status = context.status ? context.status() : TierStatus{};
  return {.type = "text/plain; version=0.0.4; charset=utf-8",
          .body = metrics_text(status, context)};
}

}  // namespace weir::aggregator
