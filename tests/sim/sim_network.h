#pragma once
// Network: every Link and Door of one simulated world. Messages travel with a delay; by seed they
// are dropped, doubled, overtaken or damaged on the way, links are cut (both ways or one way) and
// reset, processes stand still.
//
// Owner: the World; one thread. Promise: nothing is delivered inside send(); a connection's pipe is
// bounded like ZeroMQ's; a connection dies with either process, with a reset, and kSilence after a
// cut, and is made anew (with a new PeerId) when both ends are there; what was in its pipe then is
// lost. Every delivery goes into trace().

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/transport.h"
#include "tests/sim/scheduler.h"

namespace weir::sim {

// In thousandths of the messages.
struct MessageFaults {
  unsigned drop = 0;
  unsigned duplicate = 0;
  unsigned overtake = 0;
  unsigned damage = 0;
  Nanos delay_min = std::chrono::milliseconds(1);
  Nanos delay_max = std::chrono::milliseconds(5);
};

enum class Cut : uint8_t { kNone, kBoth, kUp, kDown };

class Network {
 public:
  static constexpr size_t kPipe = 64;  // messages under way in one direction of a connection
  static constexpr Nanos kSilence = std::chrono::seconds(3);

  // What a receiver has counted as its verdicts on messages: one more after each that is judged.
  // None: it is dead.
  using Verdicts = std::function<std::optional<uint64_t>(const std::string& process)>;
  // What a process sends, as it sends it.
  using Tap = std::function<void(const std::string& process, ByteView header, ByteView body)>;
  // A damaged message that did not end in exactly one counter.
  using Miscounted = std::function<void(const std::string& process, uint64_t verdicts)>;

  Network(Scheduler& scheduler, uint64_t seed);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  void set_faults(const MessageFaults& faults) { faults_ = faults; }

  void watch(Tap down, Verdicts verdicts, Miscounted miscounted);

  // At most one Door per endpoint at a time. Both must be gone before the Network.
  std::unique_ptr<Door> bind(const std::string& process, const std::string& endpoint);
  std::unique_ptr<Link> connect(const std::string& process, const std::string& endpoint);

  // Between two processes, all their links; kNone heals.
  void cut(const std::string& lower, const std::string& upper, Cut cut);
  void heal_all();
  void reset(const std::string& process);  // every connection of it
  // As SIGSTOP: it gets nothing until resume(), then what had reached its sockets; its connections
  // are dead after kSilence.
  void pause(const std::string& process);
  void resume(const std::string& process);
  void stop(const std::string& process);  // its end: it is not paused any more

  // As if `peer` had sent it: a frame from nobody we know. True: a door was there, and counted
  // exactly one verdict.
  void inject(const std::string& endpoint, const PeerId& peer, ByteView header, ByteView body);

  [[nodiscard]] uint64_t trace() const { return trace_; }

  [[nodiscard]] uint64_t delivered() const { return delivered_; }

  [[nodiscard]] uint64_t damaged() const { return damaged_; }

 private:
  enum class Way : uint8_t { kUp, kDown };

  class SimLink;
  class SimDoor;

  using Links = std::map<uint64_t, SimLink*>;  // by id

  // A process, for ever: its links and doors come and go.
  struct Host {
    std::string name;
    Links links{};
    std::vector<SimDoor*> doors{};
    bool paused = false;
    std::vector<size_t> waiting{};  // messages, while it is paused
  };

  // An endpoint, for ever.
  struct Port {
    std::string endpoint;
    SimDoor* door = nullptr;
    Links links{};
  };

  struct Message {
    uint64_t link_id = 0;
    uint64_t connection = 0;
    Way way = Way::kUp;
    bool is_damaged = false;
    Bytes header;
    Bytes body;
  };

  using Path = std::pair<const Host*, const Host*>;  // lower, upper

  Host& host(const std::string& name);
  Port& port(const std::string& endpoint);

  [[nodiscard]] SimLink* link_of(uint64_t id) const { return links_[id]; }

  bool transmit(SimLink& link, Way way, ByteView header, ByteView body);
  size_t new_message();
  void arrive(size_t number);
  void deliver(size_t number);
  void hand(SimLink& link, const Message& message);
  // What `hand` gives to the receiver must end in exactly one of its counters.
  void judge(const std::string& receiver, const std::function<void()>& hand);
  void damage(Message& message);
  void connect_soon(SimLink& link);
  void disconnect(SimLink& link);
  void mix(uint64_t value);
  [[nodiscard]] bool reachable(const SimLink& link) const;
  [[nodiscard]] Cut cut_of(const SimLink& link) const;

  Scheduler& scheduler_;
  Random random_;
  MessageFaults faults_;
  std::map<std::string, Host> hosts_;
  std::map<std::string, Port> ports_;
  std::vector<SimLink*> links_{nullptr};  // by id; null: gone
  std::unordered_map<PeerId, SimLink*> peers_;
  std::map<Path, Cut> cuts_;
  std::deque<Message> messages_;  // under way, and free ones
  std::vector<size_t> free_messages_;
  Tap tap_;
  Verdicts verdicts_;
  Miscounted miscounted_;
  uint64_t trace_ = 0;
  uint64_t delivered_ = 0;
  uint64_t damaged_ = 0;
};

}  // namespace weir::sim
