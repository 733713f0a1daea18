// What an uplink does about rows whose target is gone: they wait until the last tier has fenced it
// and said what it took from it (docs/wire.md, "Delivery").

#include <algorithm>

#include "common/crash_point.h"
#include "common/uplink.h"

namespace weir {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr nanoseconds kAskAgainMin = seconds(1);
constexpr nanoseconds kAskAgainMax = seconds(30);

}  // namespace

bool Uplink::served(const Target& target) const {
  return std::ranges::any_of(upstreams_, [&](const auto& upstream) {
    return usable(*upstream) && upstream->session.target() == target;
  });
}

bool Uplink::in_doubt(MonoTime now, const Target& target) const {
  if (served(target)) return false;
  MonoTime heard = *started_;
  for (const auto& upstream : upstreams_) {
    const Session& session = upstream->session;
    if (session.target().tier_source != target.tier_source) continue;
    if (session.target() != target || upstream->fenced == target) return true;  // that life is over
    heard = std::max(heard, session.last_heard());
  }
  return now - heard >= options_.fence_after;
}

Status Uplink::inquire(MonoTime now) {
  WEIR_TRY_ASSIGN(const auto assigned, outbox_.assigned());
  std::erase_if(inquiries_, [&](const auto& inquiry) {
    return std::ranges::find(assigned, inquiry.first, &AssignedRows::target) == assigned.end();
  });
  for (const auto& [target, rows] : assigned) {
#ifdef WEIR_MUTATE_NAIVE_FAILOVER  // the suite must notice: what is in doubt is sent elsewhere
    if (!served(target)) WEIR_TRY(outbox_.included(target, rows.epoch, rows.lo, rows.hi, {}));
#endif
    if (!in_doubt(now, target)) {
      inquiries_.erase(target);
      continue;
    }
    Inquiry& inquiry = inquiries_[target];
    if (now < inquiry.due) continue;
    const unsigned attempt = inquiry.attempts++;
    inquiry.due = now + jitter_.between(kAskAgainMin, doubled(kAskAgainMin, attempt, kAskAgainMax));
    const AskIncluded question{target.tier_source, target.tier_epoch, outbox_.source(),
                               rows.epoch,         rows.lo,           rows.hi};
    if (ask(question)) ++asked_;
  }
  return {};
}

bool Uplink::ask(const AskIncluded& question) {
  // The active one first; any other will do.
  if (active_ != nullptr && active_->session.connected() &&
      active_->session.send_control(FrameType::kAskIncluded, question)) {
    return true;
  }
  return std::ranges::any_of(order_, [&](Upstream* upstream) {
    return upstream->session.connected() &&
           upstream->session.send_control(FrameType::kAskIncluded, question);
  });
}

// True of that life for ever, so an old answer, or the same again, does nothing wrong.
Status Uplink::answered(MonoTime now, const Included& answer) {
  if (!answer.fenced || answer.complete_to < answer.lo) return {};  // it is asked again later
  const Target target{answer.tier_source, answer.tier_epoch};
  crash_point(crash(".included_before").c_str());
  WEIR_TRY(outbox_.included(target, answer.epoch, answer.lo, answer.complete_to, answer.spans));
  crash_point(crash(".included_after").c_str());
  ++fenced_;
  for (auto& upstream : upstreams_) {
    if (!usable(*upstream) || upstream->session.target() == target) continue;
    WEIR_TRY_ASSIGN(const auto ids,
                    outbox_.claim(upstream->session.target(), upstream->offers.held_by_peer()));
    upstream->offers.expect(ids);
  }
  for (auto& upstream : upstreams_) {
    if (!upstream->session.connected() || upstream->session.target() != target) continue;
    upstream->fenced = target;  // it has not heard of it yet
    upstream->offers.stop();
    upstream->session.lose(now, options_.session.ping_every);
  }
  // The rest, or rows of another epoch, now.
  inquiries_.erase(target);
  next_look_ = now;
  return {};
}

}  // namespace weir
