#pragma once
// FakeWire: a Door and its Links without sockets. Messages wait until deliver(); on the way they
// are dropped, duplicated, reordered, cut or bit-flipped as `Faults` says, by seed.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "common/bytes.h"
#include "common/check.h"
#include "common/transport.h"

namespace weir {

struct Faults {
  unsigned drop_percent = 0;
  unsigned duplicate_percent = 0;
  unsigned reorder_percent = 0;
  unsigned damage_percent = 0;
};

class FakeWire {
 public:
  explicit FakeWire(uint64_t seed = 1, Faults faults = {}) : random_(seed), faults_(faults) {}

  FakeWire(const FakeWire&) = delete;
  FakeWire& operator=(const FakeWire&) = delete;

  Door& door() { return door_; }

  // The wire has one link at a time; its messages arrive from a new peer after each connect().
  Link& link() { return link_; }

  void connect() {
    queue_.clear();
    ++connection_;
    connected_ = true;
  }

  void disconnect() { connected_ = false; }

  void set_faults(Faults faults) { faults_ = faults; }

  [[nodiscard]] size_t waiting() const { return queue_.size(); }

  [[nodiscard]] uint64_t damaged() const { return damaged_; }

  // Delivers up to `limit` messages; receivers may send more.
  void deliver(size_t limit = SIZE_MAX) {
    while (limit-- > 0 && !queue_.empty()) {
      const size_t at = chance(faults_.reorder_percent) ? random_() % queue_.size() : 0;
      Message message = std::move(queue_[at]);
      queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(at));
      if (chance(faults_.drop_percent)) continue;
      if (chance(faults_.duplicate_percent)) queue_.push_back(message);
      if (chance(faults_.damage_percent)) damage(message);
      if (message.upwards) {
        if (door_.receiver) door_.receiver(peer(), std::nullopt, message.header, message.body);
      } else if (link_.receiver) {
        link_.receiver(message.header, message.body);
      }
    }
  }

 private:
  struct Message {
    bool upwards = false;
    Bytes header;
    Bytes body;
  };

  struct FakeLink final : Link {
    explicit FakeLink(FakeWire& w) : wire(w) {}

    bool send(ByteView header, ByteView body) override {
      return wire.put({true, {header.begin(), header.end()}, {body.begin(), body.end()}});
    }

    void on_receive(Receiver r) override { receiver = std::move(r); }

    [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

    FakeWire& wire;
    Receiver receiver;
  };

  struct FakeDoor final : Door {
    explicit FakeDoor(FakeWire& w) : wire(w) {}

    bool send(const PeerId& to, ByteView header, ByteView body) override {
      if (to != wire.peer()) return false;
      return wire.put({false, {header.begin(), header.end()}, {body.begin(), body.end()}});
    }

    void on_receive(Receiver r) override { receiver = std::move(r); }

    [[nodiscard]] std::string endpoint() const override { return "inproc://fake"; }

    [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

    FakeWire& wire;
    Receiver receiver;
  };

  [[nodiscard]] PeerId peer() const { return "peer-" + std::to_string(connection_); }

  bool chance(unsigned percent) { return percent > 0 && random_() % 100 < percent; }

  bool put(Message message) {
    if (!connected_ || queue_.size() >= 64) return false;
    queue_.push_back(std::move(message));
    return true;
  }

  void damage(Message& message) {
    Bytes& bytes = random_() % 4 == 0 || message.body.empty() ? message.header : message.body;
    if (random_() % 2 == 0) {
      bytes.resize(random_() % bytes.size());
    } else {
      bytes[random_() % bytes.size()] ^= static_cast<std::byte>(1U << (random_() % 8));
    }
    ++damaged_;
  }

  std::mt19937_64 random_;
  Faults faults_;
  std::deque<Message> queue_;
  bool connected_ = false;
  uint64_t connection_ = 0;
  uint64_t damaged_ = 0;
  FakeLink link_{*this};
  FakeDoor door_{*this};
};

}  // namespace weir
