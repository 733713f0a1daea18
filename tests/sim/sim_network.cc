#include "tests/sim/sim_network.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/hash.h"

namespace weir::sim {

using std::chrono::milliseconds;

class Network::SimLink final : public Link {
 public:
  SimLink(Network& n, std::string of_process, std::string to)
      : network(n), process(std::move(of_process)), endpoint(std::move(to)) {}

  ~SimLink() override {
    network.disconnect(*this);
    network.links_.erase(id);
  }

  SimLink(const SimLink&) = delete;
  SimLink& operator=(const SimLink&) = delete;

  bool send(ByteView header, ByteView body) override {
    return connected && network.transmit(*this, Way::kUp, header, body);
  }

  void on_receive(Receiver r) override { receiver = std::move(r); }

  [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

  [[nodiscard]] PeerId peer(uint64_t of_connection) const {
    return process + ">" + endpoint + "#" + std::to_string(id) + "." +
           std::to_string(of_connection);
  }

  Network& network;
  std::string process;
  std::string endpoint;
  Receiver receiver;
  uint64_t id = 0;
  uint64_t connection = 0;
  bool connected = false;
  bool connecting = false;
  size_t under_way[2] = {0, 0};
  Nanos last_arrival[2] = {};
};

class Network::SimDoor final : public Door {
 public:
  SimDoor(Network& n, std::string of_process, std::string at)
      : network(n), process(std::move(of_process)), endpoint_(std::move(at)) {}

  ~SimDoor() override {
    for (auto& [id, link] : network.links_) {
      if (link->endpoint == endpoint_) network.disconnect(*link);
    }
    network.doors_.erase(endpoint_);
  }

  SimDoor(const SimDoor&) = delete;
  SimDoor& operator=(const SimDoor&) = delete;

  bool send(const PeerId& peer, ByteView header, ByteView body) override {
    if (network.tap_) network.tap_(process, header, body);
    const auto found = network.peers_.find(peer);
    return found != network.peers_.end() &&
           network.transmit(*found->second, Way::kDown, header, body);
  }

  void on_receive(Receiver r) override { receiver = std::move(r); }

  [[nodiscard]] std::string endpoint() const override { return endpoint_; }

  [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

  Network& network;
  std::string process;
  std::string endpoint_;
  Receiver receiver;
};

Network::Network(Scheduler& scheduler, uint64_t seed) : scheduler_(scheduler), random_(seed) {}

Network::~Network() { WEIR_CHECK(links_.empty() && doors_.empty()); }

void Network::watch(Tap down, Verdicts verdicts, Miscounted miscounted) {
  tap_ = std::move(down);
  verdicts_ = std::move(verdicts);
  miscounted_ = std::move(miscounted);
}

std::unique_ptr<Door> Network::bind(const std::string& process, const std::string& endpoint) {
  auto door = std::make_unique<SimDoor>(*this, process, endpoint);
  WEIR_CHECK(doors_.emplace(endpoint, door.get()).second);
  connect_all_to(endpoint);
  return door;
}

std::unique_ptr<Link> Network::connect(const std::string& process, const std::string& endpoint) {
  auto link = std::make_unique<SimLink>(*this, process, endpoint);
  link->id = next_link_++;
  links_.emplace(link->id, link.get());
  connect_soon(*link);
  return link;
}

Cut Network::cut_of(const SimLink& link) const {
  const auto door = doors_.find(link.endpoint);
  if (door == doors_.end()) return Cut::kNone;
  const auto found = cuts_.find({link.process, door->second->process});
  return found == cuts_.end() ? Cut::kNone : found->second;
}

bool Network::reachable(const SimLink& link) const {
  const auto door = doors_.find(link.endpoint);
  return door != doors_.end() && cut_of(link) == Cut::kNone && !paused_.contains(link.process) &&
         !paused_.contains(door->second->process);
}

void Network::connect_all_to(const std::string& endpoint) {
  for (auto& [id, link] : links_) {
    if (link->endpoint == endpoint) connect_soon(*link);
  }
}

// ZeroMQ tries by itself; here an attempt is made when it can succeed.
void Network::connect_soon(SimLink& link) {
  if (link.connected || link.connecting) return;
  link.connecting = true;
  scheduler_.after(random_.time(milliseconds(5), milliseconds(1000)), [this, id = link.id] {
    const auto found = links_.find(id);
    if (found == links_.end()) return;
    SimLink& self = *found->second;
    self.connecting = false;
    if (self.connected || !reachable(self)) return;
    ++self.connection;
    self.connected = true;
    peers_.emplace(self.peer(self.connection), &self);
  });
}

void Network::disconnect(SimLink& link) {
  if (!link.connected) return;
  peers_.erase(link.peer(link.connection));
  link.connected = false;
  std::fill(std::begin(link.under_way), std::end(link.under_way), 0);
}

void Network::cut(const std::string& lower, const std::string& upper, Cut cut) {
  if (cut == Cut::kNone) {
    cuts_.erase({lower, upper});
    for (auto& [id, link] : links_) {
      if (link->process == lower) connect_soon(*link);
    }
    return;
  }
  cuts_[{lower, upper}] = cut;
  for (auto& [id, link] : links_) {
    if (link->process != lower || !link->connected) continue;
    const auto door = doors_.find(link->endpoint);
    if (door == doors_.end() || door->second->process != upper) continue;
    // Heartbeats find out.
    scheduler_.after(kSilence, [this, link_id = id, connection = link->connection] {
      const auto found = links_.find(link_id);
      if (found == links_.end() || found->second->connection != connection) return;
      if (cut_of(*found->second) != Cut::kNone) disconnect(*found->second);
    });
  }
}

void Network::heal_all() {
  cuts_.clear();
  for (auto& [id, link] : links_) connect_soon(*link);
}

void Network::reset(const std::string& process) {
  for (auto& [id, link] : links_) {
    const auto door = doors_.find(link->endpoint);
    const bool is_its =
        link->process == process || (door != doors_.end() && door->second->process == process);
    if (!is_its) continue;
    disconnect(*link);
    connect_soon(*link);
  }
}

void Network::pause(const std::string& process) {
  paused_.try_emplace(process);
  scheduler_.after(kSilence, [this, process] {
    if (paused_.contains(process)) reset(process);
  });
}

void Network::resume(const std::string& process) {
  auto waiting = paused_.extract(process);
  if (waiting.empty()) return;
  // What had reached its sockets is there, also of connections that are gone.
  for (Message& message : waiting.mapped()) deliver(message);
  reset(process);
}

void Network::stop(const std::string& process) { paused_.erase(process); }

bool Network::transmit(SimLink& link, Way way, ByteView header, ByteView body) {
  const auto at = static_cast<size_t>(way);
  if (!link.connected || link.under_way[at] >= kPipe) return false;
  if (random_.permille(faults_.drop)) return true;
  const Cut cut = cut_of(link);
  if (cut == Cut::kBoth || (cut == Cut::kUp && way == Way::kUp) ||
      (cut == Cut::kDown && way == Way::kDown)) {
    return true;
  }
  const int copies = random_.permille(faults_.duplicate) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    Nanos arrival = scheduler_.now() + random_.time(faults_.delay_min, faults_.delay_max);
    if (!random_.permille(faults_.overtake)) {
      arrival = std::max(arrival, link.last_arrival[at]);
      link.last_arrival[at] = arrival;
    }
    Message message{.link_id = link.id,
                    .connection = link.connection,
                    .way = way,
                    .is_damaged = false,
                    .header = {header.begin(), header.end()},
                    .body = {body.begin(), body.end()}};
    if (random_.permille(faults_.damage)) damage(message);
    ++link.under_way[at];
    scheduler_.at(arrival, [this, moved = std::make_shared<Message>(std::move(message))] {
      arrive(std::move(*moved));
    });
  }
  return true;
}

void Network::damage(Message& message) {
  Bytes& bytes = random_.percent(25) || message.body.empty() ? message.header : message.body;
  if (random_.percent(30)) {
    bytes.resize(random_.below(bytes.size()));
  } else {
    bytes[random_.below(bytes.size())] ^= static_cast<std::byte>(1U << random_.below(8));
  }
  message.is_damaged = true;
}

void Network::arrive(Message message) {
  const auto found = links_.find(message.link_id);
  if (found == links_.end()) return;
  SimLink& link = *found->second;
  if (!link.connected || link.connection != message.connection) return;  // died with it
  const auto door = doors_.find(link.endpoint);
  WEIR_CHECK(door != doors_.end());
  const std::string& receiver = message.way == Way::kUp ? door->second->process : link.process;
  if (const auto paused = paused_.find(receiver); paused != paused_.end()) {
    paused->second.push_back(std::move(message));  // at most kPipe of each connection
    return;
  }
  deliver(message);
}

void Network::deliver(const Message& message) {
  const auto found = links_.find(message.link_id);
  if (found == links_.end()) return;
  SimLink& link = *found->second;
  if (link.connected && link.connection == message.connection) {
    --link.under_way[static_cast<size_t>(message.way)];
  }
  const auto door = doors_.find(link.endpoint);
  if (door == doors_.end()) return;
  ++delivered_;
  mix(static_cast<uint64_t>(scheduler_.now().count()));
  mix(message.link_id * 2 + static_cast<uint64_t>(message.way));
  mix(hash64(message.header, 1));
  if (message.way == Way::kUp) {
    SimDoor& to = *door->second;
    if (!to.receiver) return;
    judge(message, to.process, [&] {
      to.receiver(link.peer(message.connection), std::nullopt, message.header, message.body);
    });
  } else if (link.receiver) {
    judge(message, link.process, [&] { link.receiver(message.header, message.body); });
  }
}

void Network::judge(const Message& message, const std::string& receiver,
                    const std::function<void()>& hand) {
  if (!message.is_damaged || !verdicts_) return hand();
  ++damaged_;
  const std::string process = receiver;  // the receiver may die of it
  const auto before = verdicts_(process);
  hand();
  const auto after = verdicts_(process);
  if (before && after && *after != *before + 1) miscounted_(process, *after - *before);
}

void Network::inject(const std::string& endpoint, const PeerId& peer, ByteView header,
                     ByteView body) {
  const auto door = doors_.find(endpoint);
  if (door == doors_.end() || !door->second->receiver) return;
  SimDoor& to = *door->second;
  Message message;
  message.is_damaged = true;
  judge(message, to.process, [&] { to.receiver(peer, std::nullopt, header, body); });
}

void Network::mix(uint64_t value) {
  trace_ = (trace_ ^ value) * 0x9E3779B97F4A7C15ULL;
  trace_ ^= trace_ >> 29;
}

}  // namespace weir::sim
