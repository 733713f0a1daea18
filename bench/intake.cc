// bench intake: what StatsD costs. A socket is filled, then emptied with the clock running, so the
// sender's work is not in the figure; recvmmsg alone empties another socket with the same datagrams
// in the same round. Then a paced sender and the daemon's loop run side by side and drops count.
//
// The source is the daemon's own: journal in a file, recorder, kernel drop counter.

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/report.h"
#include "common/clock.h"
#include "common/log.h"
#include "daemon/statsd/statsd_source.h"

namespace {

using namespace weir;          // NOLINT(google-build-using-namespace)
using namespace weir::daemon;  // NOLINT(google-build-using-namespace)

constexpr size_t kPackets = 10'000;  // a round; they fit the receive buffer
constexpr int kBuffer = 64 << 20;
constexpr size_t kSeries = 100;
constexpr size_t kMetricsBatched = 20;
constexpr auto kTick = std::chrono::milliseconds(1);

std::string line(size_t i) {
  return "shop.orders_total:" + std::to_string(1 + i % 9) +
         "|c|#env:prod,service:checkout,shard:" + std::to_string(i % kSeries);
}

std::vector<std::string> make_packets(size_t count, size_t metrics) {
  std::vector<std::string> packets(count);
  for (size_t i = 0; i < count * metrics; ++i) {
    std::string& packet = packets[i / metrics];
    packet += (packet.empty() ? "" : "\n") + line(i);
  }
  return packets;
}

class Sender {
 public:
  explicit Sender(const std::string& address)
      : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const auto parsed = statsd::parse_udp_address(address);
    const void* raw = &parsed->storage;
    WEIR_CHECK(::connect(fd_.get(), static_cast<const sockaddr*>(raw), parsed->size) == 0);
  }

  void send(const std::string& packet) const {
    WEIR_CHECK(::send(fd_.get(), packet.data(), packet.size(), 0) ==
               static_cast<ssize_t>(packet.size()));
  }

 private:
  Fd fd_;
};

// recvmmsg and nothing else: the floor under any receiver.
class BareReceiver {
 public:
  BareReceiver()
      : socket_(*statsd::open_udp("127.0.0.1:0", kBuffer)), sender_(socket_.what.substr(4)) {}

  double round(const std::vector<std::string>& packets) {
    for (const auto& packet : packets) sender_.send(packet);
    const int64_t start = bench::now_ns();
    size_t received = 0;
    int got = 0;
    do {
      for (size_t i = 0; i < messages_.size(); ++i) {
        buffers_[i] = {bytes_.get() + i * PacketJournal::kSlotBytes, PacketJournal::kSlotBytes};
        messages_[i] = {};
        messages_[i].msg_hdr.msg_iov = &buffers_[i];
        messages_[i].msg_hdr.msg_iovlen = 1;
      }
      got = ::recvmmsg(socket_.fd.get(), messages_.data(), PacketJournal::kSlots, MSG_DONTWAIT,
                       nullptr);
      received += got > 0 ? static_cast<size_t>(got) : 0;
    } while (got > 0);
    WEIR_CHECK(received > 0);
    return static_cast<double>(bench::now_ns() - start) / static_cast<double>(received);
  }

 private:
  statsd::PushSocket socket_;
  Sender sender_;
  std::array<mmsghdr, PacketJournal::kSlots> messages_{};
  std::array<iovec, PacketJournal::kSlots> buffers_{};
  std::unique_ptr<char[]> bytes_ = std::make_unique_for_overwrite<char[]>(  // NOLINT
      PacketJournal::kSlots * PacketJournal::kSlotBytes);
};

// The daemon's StatsD source over a real loop, recorder and journal.
class Intake {
 public:
  explicit Intake(const std::string& journal)
      : source_({.enabled = true,
                 .udp = "127.0.0.1:0",
                 .unix_path = "",
                 .receive_buffer = kBuffer,
                 .journal_path = journal}) {
    source_.start({*loop_, worker_, recorder_, clock_});
    WEIR_CHECK(source_.status().state == SourceState::kRunning);
    sender_ = std::make_unique<Sender>(source_.open_sockets().front().substr(4));
  }

  ~Intake() { source_.stop(); }

  Intake(const Intake&) = delete;
  Intake& operator=(const Intake&) = delete;

  double round(const std::vector<std::string>& packets) {
    for (const auto& packet : packets) sender_->send(packet);
    const uint64_t before = counter("weir_statsd_packets_total");
    const int64_t start = bench::now_ns();
    source_.drain(clock_.now(), Source::Drain::kFinal);
    const auto spent = static_cast<double>(bench::now_ns() - start);
    flush();
    return spent / static_cast<double>(counter("weir_statsd_packets_total") - before);
  }

  // Sends `per_second` packets a second from another thread while the loop reads.
  void paced(const std::vector<std::string>& packets, size_t per_second,
             std::chrono::seconds time) {
    std::atomic<bool> done{false};
    std::thread thread([&] {
      const int64_t start = bench::now_ns();
      const auto total = per_second * static_cast<size_t>(time.count());
      for (size_t sent = 0; sent < total; ++sent) {
        const auto due = static_cast<int64_t>(sent * 1'000'000'000 / per_second);
        if (sent % 32 == 0 && bench::now_ns() - start < due) std::this_thread::sleep_for(kTick);
        sender_->send(packets[sent % packets.size()]);
      }
      done = true;
    });
    while (!done) {
      loop_->turn(std::chrono::milliseconds(10));
      if (source_.wants_commit()) flush();
    }
    thread.join();
    source_.drain(clock_.now(), Source::Drain::kFinal);
    flush();
  }

  [[nodiscard]] uint64_t counter(const std::string& name) const {
    for (const auto& [key, value] : source_.status().counters) {
      if (key == name) return value;
    }
    return 0;
  }

  [[nodiscard]] uint64_t dropped() const {
    return counter(R"(weir_dropped_total{where="statsd",reason="kernel"})");
  }

 private:
  void flush() {
    for (const int64_t window : recorder_.open_windows()) bench::keep(recorder_.take(window));
    source_.committed(source_.journal_position());
  }

  SystemClock clock_;
  Recorder recorder_{RecorderLimits{}, clock_.now()};
  Worker worker_{"bench"};
  std::unique_ptr<Loop> loop_ = *Loop::create();
  StatsdSource source_;
  std::unique_ptr<Sender> sender_;
};

}  // namespace

int main(int argc, char** argv) {
  bench::Report report("intake", argc, argv);
  log::set_level(log::Level::kError);
  std::string folder = (std::filesystem::temp_directory_path() / "weir-bench-XXXXXX").string();
  WEIR_CHECK(::mkdtemp(folder.data()) != nullptr);
  {
    Intake intake(folder + "/journal");
    BareReceiver bare;
    const auto single = make_packets(kPackets, 1);
    const auto batched = make_packets(kPackets / 4, kMetricsBatched);
    const auto [ours, limit, many] = bench::interleaved(
        report.rounds(), [&] { return intake.round(single); }, [&] { return bare.round(single); },
        [&] { return intake.round(batched) / kMetricsBatched; });
    const uint64_t dropped_by_filling = intake.dropped();

    constexpr size_t kPerSecond = 100'000;
    const std::chrono::seconds time(report.quick() ? 3 : 10);
    const auto four = make_packets(kPackets, 4);
    const uint64_t values_before = intake.counter("weir_statsd_values_total");
    const int64_t start = bench::now_ns();
    intake.paced(four, kPerSecond, time);
    const double seconds = static_cast<double>(bench::now_ns() - start) / 1e9;
    const auto values = intake.counter("weir_statsd_values_total") - values_before;

    report.figure("statsd_packets_per_s", 1e9 / bench::median(ours), "1/s",
                  "one core, one metric each");
    report.figure("statsd_ns_per_packet", bench::median(ours), "ns");
    report.figure("recv_limit_ns", bench::median(limit), "ns", "recvmmsg alone");
    report.figure("statsd_vs_recv_limit", bench::median_ratio(ours, limit), "x", "<= 3");
    report.figure("statsd_ns_per_metric_batched", bench::median(many), "ns", "<= 200, 20 a packet");
    report.figure("paced_metrics_per_s", static_cast<double>(values) / seconds, "1/s",
                  ">= 300000 without drops, 4 a packet");
    report.figure("dropped", static_cast<double>(intake.dropped() - dropped_by_filling), "packets",
                  "0 at 100,000 packets/s");
  }
  std::filesystem::remove_all(folder);
  return report.print();
}
