#pragma once
// recorded(recorder): everything in a recorder, taken out, by "name{a=b,c=d}" and merged over
// windows.

#include <map>
#include <string>

#include "common/check.h"
#include "common/value.h"
#include "daemon/recorder.h"

namespace weir::daemon {

inline std::string series_text(const SeriesTable& table, SeriesId id) {
  std::string text = table.metric_of(id).name;
  std::string labels;
  for (const auto& [name, value] : table.labels_of(id)) {
    labels += (labels.empty() ? "" : ",") + name + "=" + value;
  }
  return labels.empty() ? text : text + "{" + labels + "}";
}

inline std::map<std::string, Value> recorded(Recorder& recorder) {
  std::map<std::string, Value> all;
  for (const int64_t start : recorder.open_windows()) {
    for (auto& delta : recorder.take(start)) {
      const auto [it, fresh] =
          all.try_emplace(series_text(recorder.table(), delta.series), delta.value);
      if (!fresh) WEIR_CHECK(merge(it->second, delta.value).ok());
    }
  }
  return all;
}

}  // namespace weir::daemon
