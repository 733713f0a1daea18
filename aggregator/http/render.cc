#include "aggregator/http/render.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace weir::aggregator {
namespace {

constexpr size_t kMaxNotes = 64;

Error too_large() {
  return {Errc::kLimit, fmt::format("the answer is larger than {} MiB", kMaxResponseBytes >> 20)};
}

// Ascending. Our bucket i holds (2^(i/N), 2^((i+1)/N)], and of negative samples the mirror image;
// the number in front of each says which ends belong to it: 0 the right, 1 the left, 3 both.
void write_histogram(JsonWriter& json, const Histogram& histogram) {
  const Distribution& d = *histogram.distribution;
  const auto count_text = [&](uint64_t n) {
    return sample_text(Exact{static_cast<Int128>(n), 0, histogram.divisor_milli}.value());
  };
  const auto bucket = [&](int rule, double lo, double hi, uint64_t n) {
    json.begin_array().integer(rule).text(sample_text(lo)).text(sample_text(hi));
    json.text(count_text(n)).end_array();
  };
  json.begin_object().text("count", count_text(d.count()));
  json.text("sum", sample_text(Exact{d.sum(), d.quantum(), histogram.divisor_milli}.value()));
  json.key("buckets").begin_array();
  const IndexTable& table = index_table(d.scale(), d.quantum());
  std::vector<std::pair<int32_t, uint64_t>> negative;
  d.for_each_negative_bucket([&](int32_t index, uint64_t n) { negative.emplace_back(index, n); });
  for (auto at = negative.rbegin(); at != negative.rend(); ++at) {
    bucket(1, -table.lower_edge(at->first + 1), -table.lower_edge(at->first), at->second);
  }
  if (d.zero_count() > 0) {
    const double width = table.to_unit(static_cast<double>(d.zero_threshold()));
    bucket(3, width == 0 ? 0 : -width, width, d.zero_count());
  }
  d.for_each_bucket([&](int32_t index, uint64_t n) {
    bucket(0, table.lower_edge(index), table.lower_edge(index + 1), n);
  });
  json.end_array().end_object();
}

void write_pair(JsonWriter& json, const ResultPoint& point) {
  json.begin_array();
  write_time(json, point.time_ms);
  if (const auto* histogram = std::get_if<Histogram>(&point.value)) {
    write_histogram(json, *histogram);
  } else if (const auto* number = std::get_if<double>(&point.value)) {
    json.text(sample_text(*number));
  }
  json.end_array();
}

bool is_histogram_point(const ResultPoint& point) {
  return std::holds_alternative<Histogram>(point.value);
}

// One of "values" and "histograms"; a series may have both.
Status write_points(JsonWriter& json, const ResultSeries& series, bool histograms) {
  bool any = false;
  for (const auto& point : series.points) {
    if (is_histogram_point(point) != histograms) continue;
    if (!any) json.key(histograms ? "histograms" : "values").begin_array();
    any = true;
    write_pair(json, point);
    if (json.size() > kMaxResponseBytes) return too_large();
  }
  if (any) json.end_array();
  return {};
}

Status write_series(JsonWriter& json, const QueryResult& result) {
  json.begin_array();
  for (const auto& series : result.series) {
    json.begin_object().key("metric");
    write_labels(json, series.labels);
    if (result.type == ExprType::kRange) {
      WEIR_TRY(write_points(json, series, false));
      WEIR_TRY(write_points(json, series, true));
    } else {
      const ResultPoint& point = series.points.front();
      json.key(is_histogram_point(point) ? "histogram" : "value");
      write_pair(json, point);
    }
    json.end_object();
    if (json.size() > kMaxResponseBytes) return too_large();
  }
  json.end_array();
  return {};
}

// Only distributions have a scale.
void write_scale(JsonWriter& json, uint8_t scale, double error) {
  if (scale > 0) json.integer("scale", scale);
  if (error > 0) json.key("error").real(error);
}

void write_overflow_of(JsonWriter& json, const ResultSeries& series, ExprType type) {
  bool any = false;
  double share = 0;
  for (const auto& point : series.points) {
    share = std::max(share, point.overflow_share);
    if (!point.overflow_upper) continue;
    const std::string upper = sample_text(*point.overflow_upper);
    if (type != ExprType::kRange) {
      json.text("overflow_upper", upper);
      continue;
    }
    if (!any) json.key("overflow_upper").begin_array();
    any = true;
    json.begin_array();
    write_time(json, point.time_ms);
    json.text(upper).end_array();
  }
  if (any) json.end_array();
  if (share > 0) json.key("overflow_share").real(share);
}

// What is known of one result: where quantiles and numbers of members or keys lie, and the scale of
// distributions.
void write_sample_detail(JsonWriter& json, const ResultSeries& series, ExprType type) {
  json.begin_object();
  const ResultPoint* worst = nullptr;  // of its points: of distributions, the coarsest scale
  for (const auto& point : series.points) {
    if (point.bound &&
        (worst == nullptr || point.bound->relative_error > worst->bound->relative_error)) {
      worst = &point;
    }
  }
  if (worst != nullptr) {
    write_scale(json, worst->bound->scale, worst->bound->relative_error);
    if (type != ExprType::kRange) {
      json.text("lo", sample_text(worst->bound->lo)).text("hi", sample_text(worst->bound->hi));
    } else {
      json.key("points").begin_array();
      for (const auto& point : series.points) {
        if (!point.bound) continue;
        json.begin_array();
        write_time(json, point.time_ms);
        json.text(sample_text(point.bound->lo)).text(sample_text(point.bound->hi)).end_array();
      }
      json.end_array();
    }
  } else if (!series.points.empty()) {
    const auto* histogram = std::get_if<Histogram>(&series.points.front().value);
    if (histogram != nullptr) write_scale(json, histogram->distribution->scale(), 0);
  }
  write_overflow_of(json, series, type);
  json.end_object();
}

void write_coverage(JsonWriter& json, const QueryNotes& notes) {
  const auto [merged, expected] = notes.coverage;
  json.key("coverage").begin_object();
  json.natural("merged", merged).natural("expected", expected);
  // Without anything expected it is NaN, which JSON writes as null.
  json.key("percent").real(100 * static_cast<double>(merged) / static_cast<double>(expected));
  json.natural("windows_missing", expected - merged).natural("lost", events_lost(notes));
  json.key("losses").begin_array();
  for (const Loss& loss : notes.losses) {
    json.begin_object().text("where", loss.where).text("reason", loss.reason);
    json.natural("events", loss.events).end_object();
  }
  json.end_array().end_object();
}

void write_ledger(JsonWriter& json, const LedgerNote& ledger) {
  json.key("ledger").begin_object().natural("sources", ledger.sources);
  json.natural("unbalanced", ledger.unbalanced).natural("imbalance", ledger.imbalance);
  json.end_object();
}

void write_detail(JsonWriter& json, const QueryResult& result) {
  json.key("weir").begin_object();
  json.key("windows").begin_object();
  json.natural("finest_s", result.notes.finest_width_s);
  json.natural("coarsest_s", result.notes.coarsest_width_s);
  json.truth("open", result.notes.open_window).end_object();
  json.natural("damaged_blocks", result.notes.damaged_blocks);
  write_coverage(json, result.notes);
  if (result.notes.ledger) write_ledger(json, *result.notes.ledger);
  json.key("overflow").begin_array();
  for (const Overflow& overflow : result.notes.overflow) {
    json.begin_object().text("metric", overflow.metric).natural("events", overflow.events);
    json.key("share").real(share_of(overflow));
    json.end_object();
  }
  json.end_array();
  json.key("samples").begin_array();
  for (const auto& series : result.series) write_sample_detail(json, series, result.type);
  json.end_array().end_object();
}

std::string_view result_type_text(ExprType type) {
  switch (type) {
    case ExprType::kScalar:
      return "scalar";
    case ExprType::kString:
      return "string";
    case ExprType::kVector:
      return "vector";
    case ExprType::kRange:
      return "matrix";
  }
  return "?";
}

}  // namespace

Result<std::string> render_query(const QueryResult& result, Detail detail) {
  JsonWriter json;
  json.begin_object().text("status", "success").key("data").begin_object();
  json.text("resultType", result_type_text(result.type)).key("result");
  switch (result.type) {
    case ExprType::kScalar:
      write_pair(json, result.series.front().points.front());
      break;
    case ExprType::kString:
      json.begin_array();
      write_time(json, result.time_ms);
      json.text(result.text).end_array();
      break;
    case ExprType::kVector:
    case ExprType::kRange:
      WEIR_TRY(write_series(json, result));
      break;
  }
  json.end_object();
  write_notes(json, result.notes);
  if (detail == Detail::kWeir) write_detail(json, result);
  json.end_object();
  return std::move(json).take();
}

void write_labels(JsonWriter& json, const Labels& labels) {
  json.begin_object();
  for (const auto& [name, value] : labels) json.text(name, value);
  json.end_object();
}

void write_notes(JsonWriter& json, const QueryNotes& notes) {
  const auto list = [&json](std::string_view name, const std::set<std::string>& texts) {
    if (texts.empty()) return;
    json.key(name).begin_array();
    size_t left = kMaxNotes;
    for (const auto& text : texts) {
      if (left-- == 0) break;
      json.text(text);
    }
    json.end_array();
  };
  list("warnings", notes.warnings);
  list("infos", notes.infos);
}

void write_time(JsonWriter& json, int64_t time_ms) {
  json.real(static_cast<double>(time_ms) / 1000);
}

}  // namespace weir::aggregator
