#include "aggregator/query/matcher.h"

#include <re2/re2.h>

#include <algorithm>

#include <fmt/format.h>

#include "aggregator/query/ast.h"

namespace weir::aggregator {

struct LabelMatcher::Regex {
  explicit Regex(const std::string& pattern, const re2::RE2::Options& options)
      : re(pattern, options) {}

  re2::RE2 re;
};

LabelMatcher::LabelMatcher(Matcher matcher, std::unique_ptr<Regex> regex)
    : matcher_(std::move(matcher)), regex_(std::move(regex)) {}

LabelMatcher::LabelMatcher(LabelMatcher&&) noexcept = default;
LabelMatcher& LabelMatcher::operator=(LabelMatcher&&) noexcept = default;
LabelMatcher::~LabelMatcher() = default;

Result<LabelMatcher> LabelMatcher::compile(const Matcher& matcher) {
  if (matcher.op == MatchOp::kEqual || matcher.op == MatchOp::kNotEqual) {
    return LabelMatcher(matcher, nullptr);
  }
  re2::RE2::Options options(re2::RE2::Quiet);
  options.set_dot_nl(true);  // Prometheus: "." matches a line break
  auto regex = std::make_unique<Regex>(matcher.value, options);
  if (!regex->re.ok()) {
    return invalid(
        fmt::format("error parsing regexp \"{}\": {}", matcher.value, regex->re.error()));
  }
  return LabelMatcher(matcher, std::move(regex));
}

bool LabelMatcher::matches(std::string_view value) const {
  switch (matcher_.op) {
    case MatchOp::kEqual:
      return value == matcher_.value;
    case MatchOp::kNotEqual:
      return value != matcher_.value;
    case MatchOp::kRegex:
      return re2::RE2::FullMatch({value.data(), value.size()}, regex_->re);
    case MatchOp::kNotRegex:
      return !re2::RE2::FullMatch({value.data(), value.size()}, regex_->re);
  }
  return false;
}

bool LabelMatcher::matches(std::string_view metric_name, const Labels& labels) const {
  if (matcher_.label == kNameLabel) return matches(metric_name);
  return matches(label_value(labels, matcher_.label));
}

Result<std::vector<LabelMatcher>> compile_matchers(const std::vector<Matcher>& matchers) {
  std::vector<LabelMatcher> compiled;
  compiled.reserve(matchers.size());
  for (const auto& matcher : matchers) {
    WEIR_TRY_ASSIGN(auto one, LabelMatcher::compile(matcher));
    compiled.push_back(std::move(one));
  }
  return compiled;
}

std::string_view label_value(const Labels& labels, std::string_view name) {
  const auto found = std::ranges::find(labels, name, &Label::first);
  return found == labels.end() ? std::string_view{} : std::string_view{found->second};
}

}  // namespace weir::aggregator
