#pragma once
// Uplink: the upward half of the delivery protocol. Brings every row of an Outbox to the last tier,
// through one of several upstreams, exactly once (docs/wire.md, "Delivery").
//
// Owner: the edge loop, or an aggregator's store thread (the thread of the Outbox and the Links).
// Promise: a row is durably assigned to one target before it is sent, and sent to no other one
// until the last tier has fenced the first and said what it took from it; it leaves the outbox only
// on an ACK_G of its target or by that answer; what is refused for good becomes a tombstone. Losing
// any message is harmless; there is no elapsed-time cap on retries; at most `credit` bytes are sent
// to an upstream and not ACK_R'd. New rows go to the first usable upstream in an order of this
// source's own, so that sources spread. Pure of time: everything is driven by tick() and
// on_message(). Cost: a tick without anything due reads nothing of an outbox as it was; about 100
// bytes of memory per row under way, for at most 65,536 of them an upstream (the rest waits in the
// outbox).

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/outbox.h"
#include "common/session.h"
#include "common/transport.h"
#include "common/uplink_offers.h"

namespace weir {

struct UplinkOptions {
  OfferOptions offers;
  SessionOptions session;
  // An upstream that says nothing for so long is asked about at the last tier.
  std::chrono::nanoseconds fence_after = std::chrono::minutes(15);
  // One that is preferred gets new rows again after it was well for so long.
  std::chrono::nanoseconds return_after = std::chrono::seconds(30);
  std::optional<uint64_t> seed{};  // of jitter; default: of the source and its epoch
  // Of a tier: the tier above handed out this epoch. Everything that is not at the last tier is to
  // be dropped and Outbox::begin_epoch() called, in one transaction; nothing is sent before it.
  std::function<Status(uint64_t epoch)> on_epoch{};
  // Of a tier: the answer to another source's question.
  std::function<void(const Included&)> on_included{};
};

struct UpstreamStats {
  std::string endpoint;
  Target target;  // zero: never welcomed
  bool active = false;
  SessionStats session;
  uint64_t in_flight_bytes = 0;
};

struct UplinkStats : OfferStats {  // of all upstreams
  bool connected = false;          // to any
  uint64_t bad_messages = 0;
  uint64_t in_flight_bytes = 0;
  uint64_t credit_bytes = 0;              // of the active one
  std::chrono::nanoseconds round_trip{};  // of the active one
  std::string last_refusal;               // the newest
  uint64_t failovers = 0;                 // changes of the active one
  uint64_t asked = 0;                     // ASK_INCLUDED sent for this outbox
  uint64_t fenced_targets = 0;            // answers that settled rows
  uint64_t rollbacks = 0;                 // the tier above knows more of us than we do
  uint64_t damaged = 0;                   // of a tier: times that its own disk made it start anew
  std::vector<UpstreamStats> upstreams;
};

class Uplink {
 public:
  Uplink(Outbox& outbox, UplinkOptions options);

  // All upstreams first. An outbox whose epochs are handed out has one. The caller passes what the
  // link receives to on_message() with the number returned here.
  size_t add(std::string endpoint, Link& link);

  // Greets, PINGs, offers, asks. Call every 100 ms and after append; never inside a transaction: an
  // assignment is durable before what it assigns is sent.
  Status tick(MonoTime now, UnixTime wall);
  Status on_message(size_t upstream, MonoTime now, UnixTime wall, ByteView header, ByteView body);

  void set_report(SourceReport report) { report_ = std::move(report); }

  // Where the next appended row goes, while it would be sent at once: assigning it in the append's
  // own transaction saves one.
  [[nodiscard]] std::optional<Target> target() const;
  // Of a tier: what it has cannot be trusted. HELLO asks for a new epoch: on_epoch drops it all.
  void start_anew(MonoTime now);
  // Passes on another source's question; false: nobody to ask.
  bool ask(const AskIncluded& question);
  // Batches said to be at the last tier since the previous call; a tier releases the manifests of
  // these to the tier below (again, if it is told again).
  std::vector<SeqSpan> take_released();

  [[nodiscard]] UplinkStats stats() const;

 private:
  struct Upstream {
    Upstream(std::string name, Outbox& outbox, Link& link, const UplinkOptions& options,
             OfferStats& totals, uint64_t seed);

    std::string endpoint;
    uint64_t rank;  // the highest is the preferred one
    Session session;
    Offers offers;
    bool welcomed = false;         // ever
    bool settled = false;          // by the WELCOME: rows may be assigned to its target
    std::optional<Target> fenced;  // the last tier takes nothing of it any more
    MonoTime unwell_until{};
    std::optional<MonoTime> well_since;
    std::optional<MonoTime> no_credit_since;
  };

  struct Inquiry {
    MonoTime due{};
    unsigned attempts = 0;
  };

  [[nodiscard]] Result<Greeting> greeting();
  Status welcomed(MonoTime now, Upstream& upstream, const Welcome& welcome);
  Status handle(MonoTime now, Upstream& upstream, const Session::Received& received);
  Status settle_epoch(MonoTime now, Upstream& upstream, const Welcome& welcome);
  void start_anew_if_damaged(MonoTime now);
  Status answered(MonoTime now, const Included& answer);
  Status offer(MonoTime now);
  void observe(MonoTime now, Upstream& upstream);
  void choose(MonoTime now);
  // Rows assigned to its target may be sent to it.
  [[nodiscard]] static bool usable(const Upstream& upstream);
  [[nodiscard]] bool well(MonoTime now, const Upstream& upstream) const;
  Status inquire(MonoTime now);
  Status inquire_about_inherited(MonoTime now);
  void put(MonoTime now, Inquiry& inquiry, const AskIncluded& question);
  // Of this life the rows are in doubt, and nothing but the last tier can tell.
  [[nodiscard]] bool in_doubt(MonoTime now, const Target& target) const;
  [[nodiscard]] bool served(const Target& target) const;
  [[nodiscard]] std::string crash(const char* point) const;

  Outbox& outbox_;
  UplinkOptions options_;
  SourceReport report_;
  std::vector<std::unique_ptr<Upstream>> upstreams_;
  std::vector<Upstream*> order_;  // the preferred one first
  Upstream* active_ = nullptr;
  OfferStats totals_;
  std::map<Target, Inquiry> inquiries_;
  std::vector<AssignedRows> assigned_;  // of the outbox, as of a revision of it
  uint64_t assigned_at_ = 0;
  Greeting greeting_;
  uint64_t greeting_at_ = 0;
  uint64_t none_free_at_ = 0;  // and at this one no row was to be given away
  // Nobody's rows from before this process stay so until the last tier was asked about them all.
  bool inherited_free_ = false;
  uint64_t inherited_asked_to_ = 0;   // by id
  std::optional<SeqSpan> inherited_;  // the next, as of a revision of the outbox
  std::optional<uint64_t> inherited_at_;
  Inquiry inherited_inquiry_;
  bool forget_epoch_ = false;  // HELLO asks for a new one
  std::optional<MonoTime> started_;
  MonoTime next_look_{};
  uint64_t failovers_ = 0;
  uint64_t asked_ = 0;
  uint64_t fenced_ = 0;
  uint64_t rollbacks_ = 0;
  uint64_t damaged_ = 0;
  std::string last_refusal_;
  Jitter jitter_;
};

}  // namespace weir
