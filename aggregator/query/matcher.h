#pragma once
// A Matcher made ready to run: equality, or RE2 anchored at both ends. The only query file that
// knows RE2 is matcher.cc.
//
// Thread: const after compile(); share freely. Promise: linear time in the label's length; an
// expression too large for RE2's memory bound is refused. A label a series lacks matches as "".

#include <memory>
#include <string_view>
#include <vector>

#include "aggregator/query/data_source.h"
#include "common/metric.h"
#include "common/result.h"

namespace weir::aggregator {

class LabelMatcher {
 public:
  static Result<LabelMatcher> compile(const Matcher& matcher);
  LabelMatcher(LabelMatcher&&) noexcept;
  LabelMatcher& operator=(LabelMatcher&&) noexcept;
  ~LabelMatcher();

  [[nodiscard]] bool matches(std::string_view value) const;
  // The label's value in `labels`, and `name` for __name__.
  [[nodiscard]] bool matches(std::string_view metric_name, const Labels& labels) const;

  [[nodiscard]] const Matcher& matcher() const { return matcher_; }

 private:
  struct Regex;
  LabelMatcher(Matcher matcher, std::unique_ptr<Regex> regex);
  Matcher matcher_;
  std::unique_ptr<Regex> regex_;
};

// All matchers of a request; kInvalid names the one that does not compile.
Result<std::vector<LabelMatcher>> compile_matchers(const std::vector<Matcher>& matchers);

// Empty when there is no such label.
[[nodiscard]] std::string_view label_value(const Labels& labels, std::string_view name);

}  // namespace weir::aggregator
