#include "aggregator/store/series_set.h"

#include <algorithm>

#include "aggregator/query/value.h"
#include "aggregator/store/labels_codec.h"
#include "aggregator/store/row_deltas.h"
#include "common/check.h"

namespace weir::aggregator {

namespace {

// As merge(), but a finer distribution is brought to the coarser one's scale, which is exact.
Status merge_any_scale(Value& into, const Value& from) {
  auto* const distribution = std::get_if<Distribution>(&into);
  const auto* const other = std::get_if<Distribution>(&from);
  if (distribution == nullptr || other == nullptr) return merge(into, from);
  return add_distribution(*distribution, *other);
}

}  // namespace

SeriesSet::Slot SeriesSet::slot(const std::shared_ptr<const Metric>& metric, const Labels& labels) {
  const Bytes key = encode_labels(labels);
  const auto [at, is_new] = by_labels_[*metric].try_emplace(
      std::string(reinterpret_cast<const char*>(key.data()), key.size()),
      static_cast<Slot>(series_.size()));
  if (is_new) series_.push_back({metric, labels, {}});
  return at->second;
}

void SeriesSet::add(Slot slot, const Window& window, Value&& value) {
  WEIR_CHECK(slot < series_.size());
  ++rows_;
  std::vector<WindowValue>& windows = series_[slot].windows;
  if (windows.empty()) ++used_;
  auto at = windows.end();
  if (!windows.empty() && windows.back().window >= window) {  // else blocks arrive in order
    at = std::ranges::lower_bound(windows, window, {}, &WindowValue::window);
  }
  if (at != windows.end() && at->window == window) {
    if (!merge_any_scale(at->value, value).ok()) ++unmerged_;
    return;
  }
  bytes_ += sizeof(Window) + memory_of(value);
  windows.insert(at, {window, std::move(value)});
}

Status SeriesSet::status() const {
  if (used_ > limits_->max_series) {
    return Error{Errc::kLimit,
                 "the query selects more than " + std::to_string(limits_->max_series) + " series"};
  }
  if (rows_ > limits_->max_rows) {
    return Error{Errc::kLimit,
                 "the query reads more than " + std::to_string(limits_->max_rows) + " rows"};
  }
  if (bytes_ > limits_->max_bytes) {
    return Error{Errc::kLimit,
                 "the query needs more than " + std::to_string(limits_->max_bytes) + " bytes"};
  }
  if (std::chrono::steady_clock::now() > limits_->deadline) {
    return Error{Errc::kUnavailable, "the query took too long"};
  }
  return {};
}

std::vector<SelectedSeries> SeriesSet::take() {
  std::vector<SelectedSeries> out;
  for (SelectedSeries& series : series_) {
    if (!series.windows.empty()) out.push_back(std::move(series));
  }
  std::ranges::sort(out, [](const SelectedSeries& a, const SelectedSeries& b) {
    return std::tie(*a.metric, a.labels) < std::tie(*b.metric, b.labels);
  });
  return out;
}

}  // namespace weir::aggregator
