#pragma once
// What the figures of bench/run tier are compared with, and what ZeroMQ's own CURVE reaches: bytes
// per second of the disk, of libsodium's crypto_box, and of 1 MB messages through a Link and a
// Door.
//
// Wall time: these wait for disks and threads.

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/report.h"
#include "bench/tier_world.h"
#include "common/allow_list.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/transport.h"

namespace weir::bench {

inline double per_second(size_t bytes, int64_t since_ns) {
  return static_cast<double>(bytes) * 1e9 / static_cast<double>(now_ns() - since_ns);
}

// A file that grows, as the log of a database does.
class Disk {
 public:
  explicit Disk(const std::string& path)
      : fd_(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) {
    WEIR_CHECK(fd_.valid());
  }

  // `syncs` times: `batches` bodies written and one fdatasync.
  double rate(const Bytes& body, size_t batches, size_t syncs) {
    const int64_t start = now_ns();
    for (size_t sync = 0; sync < syncs; ++sync) {
      for (size_t i = 0; i < batches; ++i) {
        WEIR_CHECK(::write(fd_.get(), body.data(), body.size()) ==
                   static_cast<ssize_t>(body.size()));
      }
      WEIR_CHECK(::fdatasync(fd_.get()) == 0);
    }
    return per_second(syncs * batches * body.size(), start);
  }

 private:
  Fd fd_;
};

// One box, opened again and again: what CURVE costs a receiver at least.
class CryptoBox {
 public:
  explicit CryptoBox(size_t size) : sealed_(size + crypto_box_MACBYTES), opened_(size) {
    WEIR_CHECK(sodium_init() >= 0);
    std::array<unsigned char, crypto_box_PUBLICKEYBYTES> public_key{};
    std::array<unsigned char, crypto_box_SECRETKEYBYTES> secret_key{};
    crypto_box_keypair(public_key.data(), secret_key.data());
    WEIR_CHECK(crypto_box_beforenm(shared_.data(), public_key.data(), secret_key.data()) == 0);
    WEIR_CHECK(crypto_box_easy_afternm(sealed_.data(), opened_.data(), size, nonce_.data(),
                                       shared_.data()) == 0);
  }

  double rate(size_t times) {
    const int64_t start = now_ns();
    for (size_t i = 0; i < times; ++i) {
      WEIR_CHECK(crypto_box_open_easy_afternm(opened_.data(), sealed_.data(), sealed_.size(),
                                              nonce_.data(), shared_.data()) == 0);
      keep(opened_.back());
    }
    return per_second(times * opened_.size(), start);
  }

  // While another thread seals: what both ends on one machine need at the same time. Cores that
  // share their units are slower so.
  double rate_beside_sealing(size_t times) {
    std::atomic<bool> done{false};
    std::thread sealer([&] {
      std::vector<unsigned char> sealed(sealed_.size());
      const std::vector<unsigned char> open(opened_.size());
      while (!done.load()) {
        WEIR_CHECK(crypto_box_easy_afternm(sealed.data(), open.data(), open.size(), nonce_.data(),
                                           shared_.data()) == 0);
        keep(sealed.back());
      }
    });
    const double out = rate(times);
    done.store(true);
    sealer.join();
    return out;
  }

 private:
  std::array<unsigned char, crypto_box_BEFORENMBYTES> shared_{};
  std::array<unsigned char, crypto_box_NONCEBYTES> nonce_{};
  std::vector<unsigned char> sealed_;
  std::vector<unsigned char> opened_;
};

// The threads of this process by this name.
inline std::vector<std::string> threads_named(const std::string& name) {
  std::vector<std::string> out;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string found;
    std::getline(std::ifstream(task.path() / "comm"), found);
    if (found == name) out.push_back(task.path());
  }
  return out;
}

// Messages through a real Link and a real Door, both with keys; a receiver that only counts.
class CurvePipe {
 public:
  static constexpr size_t kMessage = 1'000'000;

  explicit CurvePipe(const KeyRing& keys)
      : receiver_([this, &keys] { receive(keys); }), message_(kMessage) {
    const std::string endpoint = ready_.get_future().get();
    std::vector<std::string> io;  // the door's alone: the link comes after it
    while (io.empty()) io = threads_named("ZMQbg/IO/0");  // a thread gives itself its name
    WEIR_CHECK(io.size() == 1);
    receiving_ = io.front();
    loop_ = must(Loop::create());
    link_ = must(connect_link(context_, *loop_, endpoint,
                              {&keys.edges().front(), {z85_text(keys.region().line().key)}}));
    rate(1);
  }

  CurvePipe(const CurvePipe&) = delete;
  CurvePipe& operator=(const CurvePipe&) = delete;

  ~CurvePipe() {
    receiver_loop_->stop();
    receiver_.join();
  }

  double rate(size_t messages) {
    const std::array<std::byte, 64> header{};
    const uint64_t goal = got_.load() + messages;
    const int64_t start = now_ns();
    for (size_t sent = 0; sent < messages;) {
      if (link_->send(header, message_)) {
        ++sent;
      } else {
        loop_->turn(std::chrono::milliseconds(1));
      }
    }
    // Asleep: the threads that are measured need both cores.
    for (uint64_t got = got_.load(); got < goal; got = got_.load()) got_.wait(got);
    return per_second(messages * kMessage, start);
  }

  // CPU time of the thread that receives and decrypts.
  [[nodiscard]] int64_t receiving_cpu_ns() const {
    int64_t out = 0;
    std::ifstream(receiving_ + "/schedstat") >> out;
    return out;
  }

 private:
  void receive(const KeyRing& keys) {
    TransportContext context;
    const SystemClock clock;
    const auto loop = must(Loop::create());
    receiver_loop_ = loop.get();
    const auto allow = must(AllowList::open(keys.folder() + "/edges.d", *loop, clock));
    const auto door =
        must(bind_door(context, *loop, "tcp://127.0.0.1:0", {&keys.region(), allow.get(), &clock}));
    door->on_receive([this](const PeerId&, const std::optional<Identity>&, ByteView, ByteView) {
      got_.fetch_add(1);
      got_.notify_one();
    });
    ready_.set_value(door->endpoint());
    loop->run();
  }

  std::promise<std::string> ready_;
  std::string receiving_;
  std::atomic<uint64_t> got_{0};
  Loop* receiver_loop_ = nullptr;
  std::thread receiver_;
  Bytes message_;
  TransportContext context_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Link> link_;
};

}  // namespace weir::bench
