// /api/v1/labels, /api/v1/label/<name>/values, /api/v1/series.

#include <algorithm>
#include <limits>
#include <set>

#include "aggregator/http/handlers.h"
#include "aggregator/http/params.h"
#include "aggregator/http/render.h"
#include "aggregator/query/parser.h"

namespace weir::aggregator {
namespace {

// The label sets, with __name__, of the series that the match[] selectors find in the range.
Result<std::set<Labels>> matching_series(const ApiRequest& request,
                                         const std::vector<SelectorNode>& selectors,
                                         DataSource& source, const ApiContext& context,
                                         QueryNotes& notes) {
  WEIR_TRY_ASSIGN(const auto range, time_range(request, context));
  std::set<Labels> found;
  for (const auto& selector : selectors) {
    SelectRequest select;
    select.metric = selector.metric;
    select.matchers = selector.matchers;
    select.range = range;
    select.want = SelectWant::kLabels;
    WEIR_TRY_ASSIGN(auto selection, source.select(select, context.limits));
    for (auto& series : selection.series) {
      Labels labels = std::move(series.labels);
      labels.emplace_back(kNameLabel, series.metric->name);
      std::ranges::sort(labels);
      found.insert(std::move(labels));
    }
    notes.warnings.insert(selection.notes.warnings.begin(), selection.notes.warnings.end());
  }
  return found;
}

Result<std::vector<SelectorNode>> match_parameters(const FormFields& fields) {
  std::vector<SelectorNode> selectors;
  for (const auto& text : all_fields(fields, "match[]")) {
    auto selector = parse_selector(text);
    if (!selector) return std::move(selector).error().with("invalid parameter \"match[]\"");
    selectors.push_back(*std::move(selector));
  }
  return selectors;
}

void note_cut(QueryNotes& notes, size_t found, size_t limit) {
  if (found > limit) notes.warnings.insert("results truncated due to limit");
}

ApiResponse list_response(const std::set<std::string>& values, size_t limit, QueryNotes notes) {
  JsonWriter json = success();
  json.begin_array();
  size_t left = limit;
  for (const auto& value : values) {
    if (left-- == 0) break;
    json.text(value);
    if (json.size() > kMaxResponseBytes) {
      return failed({Errc::kLimit, "the answer is larger than 64 MiB"});
    }
  }
  json.end_array();
  note_cut(notes, values.size(), limit);
  write_notes(json, notes);
  return finish(std::move(json));
}

// Without match[] the source's own index answers, for all times; with it, the series found.
template <class Collect>  // void(const Labels&, std::set<std::string>&)
ApiResponse answer_list(const ApiRequest& request, const std::string& label, DataSource& source,
                        const ApiContext& context, const Collect& collect) {
  const auto limit = limit_field(request.fields, std::numeric_limits<size_t>::max());
  if (!limit) return bad_data(limit.error());
  const auto selectors = match_parameters(request.fields);
  if (!selectors) return bad_data(selectors.error());
  if (const auto range = time_range(request, context); !range) return bad_data(range.error());
  QueryNotes notes;
  std::set<std::string> values;
  if (selectors->empty()) {
    auto all = source.label_values(label);
    if (!all) return failed(all.error());
    values.insert(all->begin(), all->end());
    if (label.empty() && !values.empty()) values.emplace(kNameLabel);
  } else {
    const auto found = matching_series(request, *selectors, source, context, notes);
    if (!found) return failed(found.error());
    for (const auto& labels : *found) collect(labels, values);
  }
  return list_response(values, *limit, std::move(notes));
}

}  // namespace

ApiResponse answer_labels(const ApiRequest& request, DataSource& source,
                          const ApiContext& context) {
  return answer_list(request, "", source, context,
                     [](const Labels& labels, std::set<std::string>& values) {
                       for (const auto& [name, value] : labels) values.insert(name);
                     });
}

ApiResponse answer_label_values(const ApiRequest& request, const std::string& label,
                                DataSource& source, const ApiContext& context) {
  if (label.empty()) return bad_data(invalid("invalid label name: \"\""));
  return answer_list(request, label, source, context,
                     [&label](const Labels& labels, std::set<std::string>& values) {
                       for (const auto& [name, value] : labels) {
                         if (name == label) values.insert(value);
                       }
                     });
}

ApiResponse answer_series(const ApiRequest& request, DataSource& source,
                          const ApiContext& context) {
  const auto limit = limit_field(request.fields, std::numeric_limits<size_t>::max());
  if (!limit) return bad_data(limit.error());
  const auto selectors = match_parameters(request.fields);
  if (!selectors) return bad_data(selectors.error());
  if (selectors->empty()) return bad_data(invalid("no match[] parameter provided"));
  if (const auto range = time_range(request, context); !range) return bad_data(range.error());
  QueryNotes notes;
  const auto found = matching_series(request, *selectors, source, context, notes);
  if (!found) return failed(found.error());
  JsonWriter json = success();
  json.begin_array();
  size_t left = *limit;
  for (const auto& labels : *found) {
    if (left-- == 0) break;
    write_labels(json, labels);
    if (json.size() > kMaxResponseBytes) {
      return failed({Errc::kLimit, "the answer is larger than 64 MiB"});
    }
  }
  json.end_array();
  note_cut(notes, found->size(), *limit);
  write_notes(json, notes);
  return finish(std::move(json));
}

}  // namespace weir::aggregator
