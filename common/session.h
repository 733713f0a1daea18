#pragma once
// Session: one connection upwards as both ends see it: HELLO and WELCOME, PING and PONG, credit,
// the other clock, GOAWAY and REVOKED. What it hears of batches it only checks and passes on.
//
// Owner: an Uplink, on its thread. Promise: a message is given out only after its header, CRC,
// addressee, decoding and type were checked, else it is counted; a peer that is asked and says
// nothing for `silence` is greeted again, and so is one that asks for it. Pure of time. Cost: a
// message in, a message out; 64 samples of the other clock.

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/outbox.h"
#include "common/transport.h"

namespace weir {

struct SessionOptions {
  std::string name;
  std::string tier;
  std::chrono::nanoseconds ping_every = std::chrono::seconds(1);
  std::chrono::nanoseconds silence = std::chrono::seconds(3);
};

// What HELLO says of the outbox.
struct Greeting {
  uint64_t epoch = 0;
  std::vector<uint64_t> epochs;
  uint64_t rows = 0;
  uint64_t bytes = 0;
};

struct SessionStats {
  bool connected = false;  // WELCOME seen, and answers arrive
  bool revoked = false;    // this source's key is not allowed any more
  uint64_t credit_bytes = 0;
  uint64_t bad_messages = 0;
  std::chrono::nanoseconds round_trip{};                 // smoothed, of PINGs and acknowledgements
  std::optional<std::chrono::nanoseconds> clock_offset;  // the peer's clock minus ours
  std::string last_refusal;                              // the newest NACK's reason, for people
};

class Session {
 public:
  Session(Link& link, const SourceId& self, SessionOptions options);

  // Notices silence; PINGs when it is time.
  void tick(MonoTime now, UnixTime wall, const SourceReport& report);
  // When not connected, it is time and the link takes it: send hello().
  [[nodiscard]] bool wants_hello(MonoTime now) const;
  void hello(MonoTime now, UnixTime wall, const Greeting& greeting);

  // A good message that is more than the session's own; its effect on the session is done.
  struct Received {
    FrameType type;
    ControlMessage message;
  };

  std::optional<Received> receive(MonoTime now, UnixTime wall, ByteView header, ByteView body);

  // False: the pipe is full, or not connected.
  bool send(const FrameHeader& header, ByteView body) { return send_raw(header, body); }

  bool send_control(FrameType type, const ControlMessage& message);
  // Greets again after the delay; what is under way is gone.
  void lose(MonoTime now, std::chrono::nanoseconds delay = {});
  void observe_round_trip(std::chrono::nanoseconds sample);

  [[nodiscard]] const SessionStats& stats() const { return stats_; }

  [[nodiscard]] bool connected() const { return stats_.connected; }

  // Of the last WELCOME.
  [[nodiscard]] const Target& target() const { return target_; }

  [[nodiscard]] uint64_t your_epoch() const { return your_epoch_; }

  // Heard as that target: what it says after the connection was lost does not count.
  [[nodiscard]] MonoTime last_connected() const { return last_connected_; }

  // When the newest PING was sent that was answered. Connections keep the order: all that was sent
  // before it has been read, or will never be.
  [[nodiscard]] MonoTime read_to() const { return read_to_; }

  // The last WELCOME is of the same peer, which was only silent: what is under way may still be.
  [[nodiscard]] bool goes_on() const { return goes_on_; }

 private:
  struct ClockSample {
    std::chrono::nanoseconds round_trip;
    std::chrono::nanoseconds offset;
  };

  std::optional<ControlMessage> open(const FrameHeader& header, ByteView body) const;
  void apply(MonoTime now, UnixTime wall, const ControlMessage& message);
  void welcomed(const Welcome& welcome);
  [[nodiscard]] bool is_silent(MonoTime now) const;
  void go_silent(MonoTime now);
  void revive(MonoTime now);
  void watch_clock(MonoTime now, UnixTime wall);
  void pong(MonoTime now, UnixTime wall, const Pong& pong);
  void nack(MonoTime now, const Nack& nack);
  bool send_raw(FrameHeader header, ByteView body);

  Link& link_;
  SourceId self_;
  SessionOptions options_;
  SessionStats stats_;
  Target target_;
  uint64_t your_epoch_ = 0;
  uint64_t greeted_epoch_ = 0;
  std::deque<ClockSample> clock_;
  std::optional<std::chrono::nanoseconds> wall_ahead_;  // of the monotonic clock
  MonoTime next_hello_{};
  MonoTime next_ping_{};
  MonoTime last_heard_{};
  std::optional<MonoTime> asked_;  // the first PING since then
  MonoTime last_connected_{};
  MonoTime read_to_ = MonoTime::min();
  bool gone_ = true;  // what is under way, since the last WELCOME
  bool goes_on_ = false;
  std::optional<MonoTime> alone_since_;  // not connected, and nothing heard, or reopened then
  unsigned reopened_ = 0;                // times, since something was heard
};

}  // namespace weir
