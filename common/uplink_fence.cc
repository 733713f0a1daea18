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
    heard = std::max(heard, session.last_connected());
  }
  return now - heard >= options_.fence_after;
}

Status Uplink::inquire(MonoTime now) {
  if (assigned_at_ != outbox_.revision()) {
    WEIR_TRY_ASSIGN(assigned_, outbox_.assigned());
    assigned_at_ = outbox_.revision();
    std::erase_if(inquiries_, [&](const auto& inquiry) {
      return std::ranges::find(assigned_, inquiry.first, &AssignedRows::target) == assigned_.end();
    });
  }
  for (const auto& [target, rows] : assigned_) {
#ifdef WEIR_MUTATE_NAIVE_FAILOVER  // the suite must notice: what is in doubt is sent elsewhere
    if (!served(target)) WEIR_TRY(outbox_.included(target, rows.epoch, rows.lo, rows.hi, {}));
#endif
    if (!in_doubt(now, target)) {
      inquiries_.erase(target);
      continue;
    }
    put(now, inquiries_[target],
        {target.tier_source, target.tier_epoch, outbox_.source(), rows.epoch, rows.lo, rows.hi});
  }
  return inquire_about_inherited(now);
}

// This may be an old copy of the database: what is nobody's in it may since have been given to any
// upstream, and be at the last tier. Upstreams that still hold some of it say so in their WELCOME;
// then the last tier says what it has. A tier above knows an old copy by its numbers.
Status Uplink::inquire_about_inherited(MonoTime now) {
  if (inherited_free_) return {};
  const bool all_welcomed =
      std::ranges::all_of(upstreams_, [](const auto& upstream) { return upstream->welcomed; });
  if (!all_welcomed && now - *started_ < options_.fence_after) return {};
#ifndef WEIR_MUTATE_INHERITED_UNASKED  // a build that tests must refuse
  if (!options_.on_epoch && inherited_at_ != outbox_.revision()) {
    WEIR_TRY_ASSIGN(inherited_, outbox_.inherited(inherited_asked_to_));
    inherited_at_ = outbox_.revision();
  }
#endif
  if (!inherited_) {
    inherited_free_ = true;
    none_free_at_ = 0;
    return {};
  }
  put(now, inherited_inquiry_,
      {kNobody.tier_source, kNobody.tier_epoch, outbox_.source(), inherited_->epoch, inherited_->lo,
       inherited_->hi});
  return {};
}

void Uplink::put(MonoTime now, Inquiry& inquiry, const AskIncluded& question) {
  if (now < inquiry.due) return;
  const unsigned attempt = inquiry.attempts++;
  inquiry.due = now + jitter_.between(kAskAgainMin, doubled(kAskAgainMin, attempt, kAskAgainMax));
  if (ask(question)) ++asked_;
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
  next_look_ = now;  // the rest, or rows of another epoch
  if (target == kNobody) {
    WEIR_TRY_ASSIGN(const uint64_t id,
                    outbox_.newest_id({answer.epoch, answer.lo, answer.complete_to}));
    inherited_asked_to_ = std::max(inherited_asked_to_, id);
    inherited_inquiry_ = {};
    return {};
  }
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
  inquiries_.erase(target);
  return {};
}

}  // namespace weir
