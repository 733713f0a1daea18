// weir flamegraph: one merged profile as a page, as folded stacks or as JSON.

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include <fmt/core.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/profile_tree.h"
#include "cli/report.h"
#include "cli/time_text.h"
#include "common/clock.h"
#include "common/time_text.h"

namespace weir::cli {
namespace {

struct Range {
  int64_t from_s = 0;
  int64_t to_s = 0;
};

Result<Range> range_of(const ProfileOptions& options, int64_t now_s) {
  Range range;
  WEIR_TRY_ASSIGN(range.to_s, parse_time(options.to, now_s));
  if (options.from.empty()) {
    WEIR_TRY_ASSIGN(const int64_t since, parse_duration(options.since));
    range.from_s = range.to_s - since;
  } else {
    WEIR_TRY_ASSIGN(range.from_s, parse_time(options.from, now_s));
  }
  if (range.from_s >= range.to_s) return invalid("--from must be before --to");
  return range;
}

Status write_out(const std::string& file, const std::string& text) {
  if (file.empty() || file == "-") {
    print(text);
    return {};
  }
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) return Error{Errc::kIo, "cannot write " + file};
  return {};
}

}  // namespace

int run_flamegraph(const Common& common, const ProfileOptions& options) {
  const auto range = range_of(options, unix_seconds(SystemClock().now()));
  if (!range.ok()) return usage(range.error());

  Parameters parameters{{"type", "cpu"},
                        {"start", std::to_string(range->from_s)},
                        {"end", std::to_string(range->to_s)}};
  std::string title = "CPU";
  const std::pair<const char*, const std::string&> filters[] = {
      {"service", options.service}, {"host", options.host}, {"region", options.region}};
  for (const auto& [name, value] : filters) {
    if (value.empty()) continue;
    parameters.emplace_back(name, value);
    title += fmt::format(" {}={}", name, value);
  }
  title += fmt::format(", {} to {}", rfc3339(range->from_s), rfc3339(range->to_s));

  const auto body = call_api(HttpClient(common.server), "/api/v1/profile", parameters);
  if (!body.ok()) return fail(body.error());
  if (options.format == "json") {
    const Status written = write_out(options.file, body->dump() + "\n");
    return written.ok() ? kAnswered : fail(written.error());
  }
  const auto data = body->find("data");
  if (data == body->end()) return fail({Errc::kInternal, "the answer holds no profile"});
  const auto tree = parse_profile(*data);
  if (!tree.ok()) return fail(tree.error());
  std::fprintf(stderr, "%s\n", quality_line(*tree).c_str());
  if (tree->samples == 0) {
    std::fprintf(stderr,
                 "weir: no samples match; try a longer --since, or `weir status` to see whether "
                 "the profile collector runs\n");
    return kNegative;
  }
  const Status written = write_out(
      options.file, options.format == "folded" ? folded(*tree) : flame_html(*tree, title));
  if (!written.ok()) return fail(written.error());
  return kAnswered;
}

}  // namespace weir::cli
