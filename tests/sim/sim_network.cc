#include "tests/sim/sim_network.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/hash.h"

namespace weir::sim {

using std::chrono::milliseconds;

class Network::SimLink final : public Link {
 public:
  SimLink(Network& n, Host& of_process, Port& to)
      : network(n), process(of_process), port(to), id(n.links_.size()) {
    network.links_.push_back(this);
    process.links.emplace(id, this);
    port.links.emplace(id, this);
  }

  ~SimLink() override {
    network.disconnect(*this);
    network.links_[id] = nullptr;
    process.links.erase(id);
    port.links.erase(id);
  }

  SimLink(const SimLink&) = delete;
  SimLink& operator=(const SimLink&) = delete;

  bool send(ByteView header, ByteView body) override {
    return connected && network.transmit(*this, Way::kUp, header, body);
  }

  [[nodiscard]] bool writable() const override {
    return connected && under_way[static_cast<size_t>(Way::kUp)] < kPipe;
  }

  void on_receive(Receiver r) override { receiver = std::move(r); }

  [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

  [[nodiscard]] PeerId peer(uint64_t of_connection) const {
    return std::to_string(id) + "." + std::to_string(of_connection);
  }

  Network& network;
  Host& process;
  Port& port;
  const uint64_t id;
  Receiver receiver;
  uint64_t connection = 0;
  PeerId peer_now;  // of the connection
  bool connected = false;
  bool connecting = false;
  size_t under_way[2] = {0, 0};
  Nanos last_arrival[2] = {};
};

class Network::SimDoor final : public Door {
 public:
  SimDoor(Network& n, Host& of_process, Port& at) : network(n), process(of_process), port(at) {
    WEIR_CHECK(port.door == nullptr);
    port.door = this;
    process.doors.push_back(this);
  }

  ~SimDoor() override {
    for (auto& [id, link] : port.links) network.disconnect(*link);
    port.door = nullptr;
    std::erase(process.doors, this);
  }

  SimDoor(const SimDoor&) = delete;
  SimDoor& operator=(const SimDoor&) = delete;

  bool send(const PeerId& peer, ByteView header, ByteView body) override {
    if (network.tap_) network.tap_(process.name, header, body);
    const auto found = network.peers_.find(peer);
    return found != network.peers_.end() &&
           network.transmit(*found->second, Way::kDown, header, body);
  }

  void on_receive(Receiver r) override { receiver = std::move(r); }

  [[nodiscard]] std::string endpoint() const override { return port.endpoint; }

  [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

  Network& network;
  Host& process;
  Port& port;
  Receiver receiver;
};

Network::Network(Scheduler& scheduler, uint64_t seed) : scheduler_(scheduler), random_(seed) {}

Network::~Network() {
  for (const auto& [name, host] : hosts_) WEIR_CHECK(host.links.empty() && host.doors.empty());
}

Network::Host& Network::host(const std::string& name) {
  return hosts_.try_emplace(name, Host{.name = name}).first->second;
}

Network::Port& Network::port(const std::string& endpoint) {
  return ports_.try_emplace(endpoint, Port{.endpoint = endpoint}).first->second;
}

void Network::watch(Tap down, Verdicts verdicts, Miscounted miscounted) {
  tap_ = std::move(down);
  verdicts_ = std::move(verdicts);
  miscounted_ = std::move(miscounted);
}

std::unique_ptr<Door> Network::bind(const std::string& process, const std::string& endpoint) {
  auto door = std::make_unique<SimDoor>(*this, host(process), port(endpoint));
  for (auto& [id, link] : door->port.links) connect_soon(*link);
  return door;
}

std::unique_ptr<Link> Network::connect(const std::string& process, const std::string& endpoint) {
  auto link = std::make_unique<SimLink>(*this, host(process), port(endpoint));
  connect_soon(*link);
  return link;
}

Cut Network::cut_of(const SimLink& link) const {
  const SimDoor* const door = link.port.door;
  if (door == nullptr || cuts_.empty()) return Cut::kNone;
  const auto found = cuts_.find({&link.process, &door->process});
  return found == cuts_.end() ? Cut::kNone : found->second;
}

bool Network::reachable(const SimLink& link) const {
  const SimDoor* const door = link.port.door;
  return door != nullptr && cut_of(link) == Cut::kNone && !link.process.paused &&
         !door->process.paused;
}

// ZeroMQ tries by itself; here an attempt is made when it can succeed.
void Network::connect_soon(SimLink& link) {
  if (link.connected || link.connecting) return;
  link.connecting = true;
  scheduler_.after(random_.time(milliseconds(5), milliseconds(1000)), [this, id = link.id] {
    if (link_of(id) == nullptr) return;
    SimLink& self = *link_of(id);
    self.connecting = false;
    if (self.connected || !reachable(self)) return;
    ++self.connection;
    self.connected = true;
    self.peer_now = self.peer(self.connection);
    peers_.emplace(self.peer_now, &self);
  });
}

void Network::disconnect(SimLink& link) {
  if (!link.connected) return;
  peers_.erase(link.peer_now);
  link.connected = false;
  std::fill(std::begin(link.under_way), std::end(link.under_way), 0);
}

void Network::cut(const std::string& lower, const std::string& upper, Cut cut) {
  const Path path{&host(lower), &host(upper)};
  if (cut == Cut::kNone) {
    cuts_.erase(path);
    for (auto& [id, link] : path.first->links) connect_soon(*link);
    return;
  }
  cuts_[path] = cut;
  for (auto& [id, link] : path.first->links) {
    if (!link->connected || link->port.door == nullptr) continue;
    if (&link->port.door->process != path.second) continue;
    // Heartbeats find out.
    scheduler_.after(kSilence, [this, link_id = id, connection = link->connection] {
      SimLink* const found = link_of(link_id);
      if (found == nullptr || found->connection != connection) return;
      if (cut_of(*found) != Cut::kNone) disconnect(*found);
    });
  }
}

void Network::heal_all() {
  cuts_.clear();
  for (SimLink* const link : links_) {
    if (link != nullptr) connect_soon(*link);
  }
}

void Network::reset(const std::string& process) {
  const Host& of = host(process);
  Links its = of.links;
  for (const SimDoor* const door : of.doors)
    its.insert(door->port.links.begin(), door->port.links.end());
  for (auto& [id, link] : its) {
    disconnect(*link);
    connect_soon(*link);
  }
}

void Network::pause(const std::string& process) {
  Host& its = host(process);
  its.paused = true;
  scheduler_.after(kSilence, [this, &its] {
    if (its.paused) reset(its.name);
  });
}

void Network::resume(const std::string& process) {
  Host& its = host(process);
  if (!its.paused) return;
  its.paused = false;
  // What had reached its sockets is there, also of connections that are gone.
  for (const size_t number : std::exchange(its.waiting, {})) deliver(number);
  reset(process);
}

void Network::stop(const std::string& process) {
  Host& its = host(process);
  its.paused = false;
  free_messages_.insert(free_messages_.end(), its.waiting.begin(), its.waiting.end());
  its.waiting.clear();
}

size_t Network::new_message() {
  if (free_messages_.empty()) {
    messages_.emplace_back();
    return messages_.size() - 1;
  }
  const size_t number = free_messages_.back();
  free_messages_.pop_back();
  return number;
}

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
    const size_t number = new_message();
    Message& message = messages_[number];
    message.link_id = link.id;
    message.connection = link.connection;
    message.way = way;
    message.is_damaged = false;
    message.header.assign(header.begin(), header.end());
    message.body.assign(body.begin(), body.end());
    if (random_.permille(faults_.damage)) damage(message);
    ++link.under_way[at];
    scheduler_.at(arrival, [this, number] { arrive(number); });
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

void Network::arrive(size_t number) {
  const Message& message = messages_[number];
  SimLink* const link = link_of(message.link_id);
  if (link == nullptr || !link->connected || link->connection != message.connection) {
    free_messages_.push_back(number);  // died with it
    return;
  }
  WEIR_CHECK(link->port.door != nullptr);
  Host& receiver = message.way == Way::kUp ? link->port.door->process : link->process;
  if (receiver.paused) {
    receiver.waiting.push_back(number);  // at most kPipe of each connection
    return;
  }
  deliver(number);
}

void Network::deliver(size_t number) {
  const Message& message = messages_[number];
  SimLink* const link = link_of(message.link_id);
  if (link != nullptr) hand(*link, message);
  free_messages_.push_back(number);
}

void Network::hand(SimLink& link, const Message& message) {
  const bool is_current = link.connected && link.connection == message.connection;
  if (is_current) --link.under_way[static_cast<size_t>(message.way)];
  SimDoor* const door = link.port.door;
  if (door == nullptr) return;
  ++delivered_;
  mix(static_cast<uint64_t>(scheduler_.now().count()));
  mix(message.link_id * 2 + static_cast<uint64_t>(message.way));
  mix(hash64(message.header, 1));
  const bool is_up = message.way == Way::kUp;
  if (is_up ? !door->receiver : !link.receiver) return;
  const auto receive = [&] {
    if (!is_up) return link.receiver(message.header, message.body);
    const PeerId peer = is_current ? link.peer_now : link.peer(message.connection);
    door->receiver(peer, std::nullopt, message.header, message.body);
  };
  if (!message.is_damaged) return receive();
  judge(is_up ? door->process.name : link.process.name, receive);
}

// The receiver may die of it.
void Network::judge(const std::string& receiver, const std::function<void()>& hand) {
  if (!verdicts_) return hand();
  ++damaged_;
  const auto before = verdicts_(receiver);
  hand();
  const auto after = verdicts_(receiver);
  if (before && after && *after != *before + 1) miscounted_(receiver, *after - *before);
}

void Network::inject(const std::string& endpoint, const PeerId& peer, ByteView header,
                     ByteView body) {
  const SimDoor* const door = port(endpoint).door;
  if (door == nullptr || !door->receiver) return;
  judge(door->process.name, [&] { door->receiver(peer, std::nullopt, header, body); });
}

void Network::mix(uint64_t value) {
  trace_ = (trace_ ^ value) * 0x9E3779B97F4A7C15ULL;
  trace_ ^= trace_ >> 29;
}

}  // namespace weir::sim
