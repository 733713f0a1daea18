#pragma once
// Answers of the evaluator as Prometheus' JSON. Pure. kLimit: the body would pass 64 MiB.

#include <cstdint>
#include <string>

#include "aggregator/http/json.h"
#include "aggregator/query/evaluator.h"

namespace weir::aggregator {

inline constexpr size_t kMaxResponseBytes = size_t{64} << 20;

enum class Detail : uint8_t { kPrometheus, kWeir };  // kWeir: with the top-level "weir" object

Result<std::string> render_query(const QueryResult& result, Detail detail);

void write_labels(JsonWriter& json, const Labels& labels);
// "warnings" and "infos", when there are any; at most 64 of each.
void write_notes(JsonWriter& json, const QueryNotes& notes);
// 1435781451.781 for 1435781451781.
void write_time(JsonWriter& json, int64_t time_ms);

}  // namespace weir::aggregator
