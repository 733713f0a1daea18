// /api/v1/profile: the profiles of a range, merged, as a trie in JSON or as folded stacks.

#include <set>

#include <fmt/format.h>

#include "aggregator/http/handlers.h"
#include "aggregator/http/params.h"
#include "aggregator/http/render.h"
#include "aggregator/query/matcher.h"
#include "aggregator/query/parser.h"

namespace weir::aggregator {
namespace {

constexpr std::array kLabelParameters = {"service", "host", "region"};

struct MergedProfile {
  Profile profile;
  std::set<Window> windows;
  std::set<std::string> hosts;
  QueryNotes notes;
};

std::string_view frame_kind_text(FrameKind kind) {
  switch (kind) {
    case FrameKind::kUser:
      return "user";
    case FrameKind::kKernel:
      return "kernel";
    case FrameKind::kSpecial:
      return "special";
  }
  return "?";
}

Result<std::vector<SelectorNode>> selectors_of(const FormFields& fields, const std::string& type) {
  std::vector<SelectorNode> selectors;
  for (const auto& text : all_fields(fields, "match[]")) {
    auto selector = parse_selector(text);
    if (!selector) return std::move(selector).error().with("invalid parameter \"match[]\"");
    if (!selector->metric.empty() && selector->metric != type) {
      return invalid(
          fmt::format("invalid parameter \"match[]\": it selects \"{}\", but type is \"{}\"",
                      selector->metric, type));
    }
    selectors.push_back(*std::move(selector));
  }
  if (selectors.empty()) selectors.push_back({.metric = type, .matchers = {}});
  for (auto& selector : selectors) {
    selector.metric = type;
    for (const auto* label : kLabelParameters) {
      if (const auto* value = find_field(fields, label)) {
        selector.matchers.push_back({label, MatchOp::kEqual, *value});
      }
    }
  }
  return selectors;
}

// The stacks of `from` under one more frame, so services stay apart in one picture.
Profile under(const std::string& root, const Profile& from) {
  Profile out;
  std::vector<Frame> stack{{FrameKind::kSpecial, "", root.empty() ? "[none]" : root}};
  out.add(stack, 0, from.samples());
  out.add_quality(from.quality());
  from.for_each_stack([&](std::span<const Frame* const> frames, uint64_t ns) {
    stack.resize(1);
    for (const auto* frame : frames) stack.push_back(*frame);
    out.add(stack, ns, 0);
  });
  return out;
}

Result<MergedProfile> merged(const ApiRequest& request, const std::vector<SelectorNode>& selectors,
                             const TimeRange& range, DataSource& source,
                             const ApiContext& context) {
  MergedProfile out;
  std::set<Labels> seen;  // a series that two selectors match counts once
  const auto* root_label = find_field(request.fields, "root");
  for (const auto& selector : selectors) {
    SelectRequest select;
    select.metric = selector.metric;
    select.matchers = selector.matchers;
    select.range = range;
    WEIR_TRY_ASSIGN(auto selection, source.select(select, context.limits));
    out.notes.warnings.insert(selection.notes.warnings.begin(), selection.notes.warnings.end());
    for (const auto& series : selection.series) {
      if (series.metric->kind != Kind::kProfile) {
        return invalid(fmt::format("\"{}\" is a {}, not a profile", series.metric->name,
                                   kind_name(series.metric->kind)));
      }
      if (!seen.insert(series.labels).second) continue;
      const auto host = label_value(series.labels, "host");
      if (!host.empty()) out.hosts.emplace(host);
      Profile sum;
      for (const auto& [window, value] : series.windows) {
        if (context.stop && context.stop()) {
          return Error{Errc::kUnavailable, "query timed out while merging profiles"};
        }
        const auto* profile = std::get_if<Profile>(&value);
        if (profile == nullptr) continue;
        WEIR_TRY(sum.merge(*profile));
        out.windows.insert(window);
      }
      if (root_label != nullptr) {
        sum = under(std::string(label_value(series.labels, *root_label)), sum);
      }
      WEIR_TRY(out.profile.merge(sum));
    }
  }
  return out;
}

// root;child;leaf NANOSECONDS, one line per stack. ';' and line breaks cannot be part of a name.
std::string folded(const Profile& profile) {
  std::string out;
  profile.for_each_stack([&out](std::span<const Frame* const> frames, uint64_t ns) {
    for (size_t i = 0; i < frames.size(); ++i) {
      if (i > 0) out.push_back(';');
      for (const char c : frames[i]->name) {
        const auto byte = static_cast<unsigned char>(c);
        out.push_back(c == ';' ? ':' : byte < 0x20 || byte == 0x7f ? '?' : c);
      }
      if (frames[i]->kind == FrameKind::kKernel) out += "_[k]";
    }
    out += fmt::format(" {}\n", ns);
  });
  return out;
}

ApiResponse json_response(const MergedProfile& merged, const std::string& type) {
  const auto tree = merged.profile.canonical();
  const auto& quality = merged.profile.quality();
  JsonWriter json = success();
  json.begin_object().text("type", type).text("unit", "nanoseconds");
  json.natural("total", merged.profile.total_ns()).natural("samples", merged.profile.samples());
  json.key("quality").begin_object().natural("lost", quality.lost);
  json.natural("truncated", quality.truncated).natural("unresolved", quality.unresolved);
  json.end_object().key("frames").begin_array();
  for (const auto* frame : tree.frames) {
    json.begin_object().text("kind", frame_kind_text(frame->kind));
    json.text("module", frame->module).text("name", frame->name).end_object();
  }
  json.end_array().key("nodes").begin_object();
  // Columns; node 0 is the root, whose parent and frame say nothing.
  json.key("parent").begin_array();
  for (const auto& node : tree.nodes) json.natural(node.parent);
  json.end_array().key("frame").begin_array();
  for (const auto& node : tree.nodes) json.natural(node.frame);
  json.end_array().key("self").begin_array();
  for (const auto& node : tree.nodes) json.natural(node.self);
  json.end_array().end_object();
  json.natural("windows", merged.windows.size()).natural("hosts", merged.hosts.size());
  json.end_object();
  write_notes(json, merged.notes);
  return finish(std::move(json));
}

}  // namespace

ApiResponse answer_profile(const ApiRequest& request, DataSource& source,
                           const ApiContext& context) {
  const auto* type_field = find_field(request.fields, "type");
  const std::string type = type_field == nullptr ? "cpu" : *type_field;
  const auto* format = find_field(request.fields, "format");
  if (format != nullptr && *format != "json" && *format != "folded") {
    return bad_data(invalid(fmt::format(
        "invalid parameter \"format\": \"{}\" is neither \"json\" nor \"folded\"", *format)));
  }
  const auto range = time_range(request, context);
  if (!range) return bad_data(range.error());
  const auto selectors = selectors_of(request.fields, type);
  if (!selectors) return bad_data(selectors.error());
  const auto profile = merged(request, *selectors, *range, source, context);
  if (!profile) return failed(profile.error());
  if (format != nullptr && *format == "folded") {
    return {.type = "text/plain; charset=utf-8", .body = folded(profile->profile)};
  }
  return json_response(*profile, type);
}

}  // namespace weir::aggregator
