// bench/run tier: what a tier takes in durably. Real ZeroMQ over loopback TCP, real intake checks,
// real SQLite: every batch is committed with its ledger entry before it is acknowledged. The limit
// is what the same bytes cost at least, in the same run: one write with one sync, or one crypto_box
// opened, whichever is slower.

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include <future>
#include <thread>
#include <vector>

#include "aggregator/intake.h"
#include "aggregator/ledger.h"
#include "bench/report.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/mailbox.h"
#include "common/sqlite.h"
#include "common/transport.h"
#include "tests/fakes/temp_dir.h"

namespace weir::bench {
namespace {

using aggregator::AcceptedBatch;
using aggregator::Acknowledgement;
using aggregator::Answers;
using aggregator::Instant;
using aggregator::Intake;
using aggregator::IntakeLimits;
using aggregator::Ledger;
using aggregator::LedgerLevel;
using aggregator::StoreRequest;

constexpr size_t kBatchBytes = 166'000;  // about 1,000 series of one minute
constexpr size_t kDrainBatches = 64;     // of one commit, at most
constexpr int64_t kInboxRows = 64;       // older ones count as folded, and go
constexpr size_t kDiskBatches = 16;      // of one synced write
constexpr SourceId kSource{std::byte{1}};
constexpr uint64_t kEpoch = 1;

void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "bench tier: %s\n", status.error().message.c_str());
  std::abort();
}

// One batch of latency distributions, as near to kBatchBytes as whole series allow.
Bytes make_batch(const Window& window) {
  const Metric metric{"http_server_request_duration_seconds", Kind::kDistribution, "seconds", -9};
  const auto encode = [&](size_t series) {
    std::vector<Labels> labels(series);
    std::vector<Value> values;
    std::vector<BatchRow> rows;
    uint64_t random = 88172645463325252ULL;
    for (size_t i = 0; i < series; ++i) {
      labels[i] = {{"http_route", "/api/v1/items/" + std::to_string(i)}, {"service", "shop"}};
      Distribution latency(metric.quantum);
      for (int n = 0; n < 200; ++n) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        must(latency.add(1'000'000 + (random % 1000) * (random % 100'000) / 10));
      }
      values.emplace_back(std::move(latency));
    }
    for (size_t i = 0; i < series; ++i) rows.push_back({&metric, &labels[i], &values[i]});
    auto batches = encode_batches({window, {{"host", "bench"}}, {}}, rows);
    WEIR_CHECK(batches.size() == 1);
    return std::move(batches.front().body);
  };
  const size_t per_series = encode(200).size() / 200;
  return encode(kBatchBytes / per_series);
}

// The receiving tier: a loop thread with Door and Intake, a store thread with the database.
class Tier {
 public:
  Tier(const std::string& path, uint32_t width_s)
      : store_thread_([this, path] { run_store(path); }),
        loop_thread_([this, width_s] { run_loop(width_s); }) {
    store_loop_ = store_ready_.get_future().get();
    endpoint_ = loop_ready_.get_future().get();
  }

  Tier(const Tier&) = delete;
  Tier& operator=(const Tier&) = delete;

  ~Tier() {
    loop_->stop();
    loop_thread_.join();
    store_loop_->stop();
    store_thread_.join();
  }

  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }

 private:
  void run_loop(uint32_t width_s) {
    TransportContext context;
    auto loop = *Loop::create();
    loop_ = loop.get();
    auto door = *bind_door(context, *loop, "tcp://127.0.0.1:0");
    SystemClock clock;
    IntakeLimits limits;
    limits.window_width_s = width_s;
    limits.epoch = 1;
    Intake intake(*door, limits, [&](StoreRequest&& request) {
      return to_store_.push(std::get<AcceptedBatch>(std::move(request)));
    });
    const auto now = [&] { return Instant{clock.now(), clock.mono()}; };
    door->on_receive(
        [&](const PeerId& peer, const std::optional<Identity>& identity, ByteView header,
            ByteView body) { intake.on_message(now(), peer, identity, header, body); });
    loop->on_readable(from_store_.fd(), [&] {
      for (auto& acks : from_store_.drain()) {
        Answers answers;
        answers.acks = std::move(acks);
        intake.committed(answers);
      }
    });
    loop_ready_.set_value(door->endpoint());
    loop->run();
  }

  void run_store(const std::string& path) {
    auto loop = *Loop::create();
    auto db = *Database::open(path);
    auto ledger = *Ledger::open(db);
    must(db.exec("CREATE TABLE inbox(id INTEGER PRIMARY KEY, seq, crc, body)"));
    auto insert = *db.prepare("INSERT INTO inbox(seq, crc, body) VALUES(?1, ?2, ?3)");
    auto trim = *db.prepare("DELETE FROM inbox WHERE id <= (SELECT max(id) FROM inbox) - ?1");
    loop->on_readable(to_store_.fd(), [&] {
      const auto batches = to_store_.drain();
      for (size_t first = 0; first < batches.size(); first += kDrainBatches) {
        const auto drain =
            std::span(batches).subspan(first, std::min(kDrainBatches, batches.size() - first));
        std::vector<Acknowledgement> answers;
        must(db.transaction([&]() -> Status {
          for (const AcceptedBatch& batch : drain) {
            WEIR_TRY(ledger.claim(LedgerLevel::kHere, batch.source, batch.epoch, batch.seq));
            WEIR_TRY(insert.bind(1, batch.seq)
                         .bind(2, uint64_t{batch.crc32c})
                         .bind(3, ByteView(batch.body))
                         .run());
            answers.push_back(
                {batch.source, batch.epoch, batch.seq, batch.seq, FrameType::kAckR, {}, {}});
          }
          return trim.bind(1, kInboxRows).run();
        }));
        WEIR_CHECK(from_store_.push(std::move(answers)));
      }
    });
    store_ready_.set_value(loop.get());
    loop->run();
  }

  Mailbox<AcceptedBatch> to_store_{1024};
  Mailbox<std::vector<Acknowledgement>> from_store_{1024};
  std::promise<Loop*> store_ready_;
  std::promise<std::string> loop_ready_;
  Loop* loop_ = nullptr;
  Loop* store_loop_ = nullptr;
  std::string endpoint_;
  std::thread store_thread_;
  std::thread loop_thread_;
};

// Offers the same body under ever new numbers; what it sends is ready-made, so that the tier is
// what is measured.
class Client {
 public:
  Client(const std::string& endpoint, Bytes body)
      : loop_(*Loop::create()),
        link_(*connect_link(context_, *loop_, endpoint)),
        body_(std::move(body)) {
    link_->on_receive([this](ByteView header, ByteView bytes) { receive(header, bytes); });
    Hello hello;
    hello.epoch = kEpoch;
    const Bytes greeting = encode_control(hello);
    while (!send(FrameType::kHello, 0, greeting)) loop_->turn(std::chrono::milliseconds(10));
    while (credit_ == 0) loop_->turn(std::chrono::milliseconds(100));
  }

  // Sends `count` batches as fast as credit allows; returns bytes per second until the last ACK_R.
  double saturate(uint64_t count) {
    const int64_t start = now_ns();
    const uint64_t end = next_ + count;
    while (acked_ + 1 < end) {
      while (next_ < end && (next_ - acked_) * body_.size() <= credit_ && offer()) {
      }
      loop_->turn(std::chrono::milliseconds(1));
    }
    const double seconds = static_cast<double>(now_ns() - start) / 1e9;
    return static_cast<double>(count * body_.size()) / seconds;
  }

  // One batch each period, whatever the answers do; latencies in milliseconds.
  std::vector<double> paced(uint64_t count, std::chrono::nanoseconds period) {
    latencies_.clear();
    int64_t due = now_ns();
    for (uint64_t sent = 0; sent < count; ++sent) {
      while (now_ns() < due || !offer()) loop_->turn(std::chrono::milliseconds(1));
      due += period.count();
    }
    while (acked_ + 1 < next_) loop_->turn(std::chrono::milliseconds(1));
    return latencies_;
  }

  [[nodiscard]] const std::vector<double>& latencies() const { return latencies_; }

 private:
  bool offer() {
    if (!send(FrameType::kData, next_, body_)) return false;
    sent_at_.push_back(now_ns());
    ++next_;
    return true;
  }

  bool send(FrameType type, uint64_t seq, const Bytes& body) {
    FrameHeader header;
    header.type = type;
    header.source = kSource;
    header.epoch = kEpoch;
    header.seq = seq;
    return link_->send(encode_header_for(header, body), body);
  }

  void receive(ByteView header, ByteView bytes) {
    const auto decoded = decode_header(header);
    const auto message = decode_control(bytes);
    WEIR_CHECK(decoded.ok() && message.ok());
    if (const auto* welcome = std::get_if<Welcome>(&*message)) credit_ = welcome->credit_bytes;
    if (const auto* nack = std::get_if<Nack>(&*message)) {
      must(invalid("the tier refused a batch: " + nack->reason));
    }
    if (const auto* ack = std::get_if<Ack>(&*message)) {
      const int64_t now = now_ns();
      while (acked_ < ack->spans.back().hi) {  // in order: nothing is lost on this wire
        latencies_.push_back(static_cast<double>(now - sent_at_[acked_++]) / 1e6);
      }
    }
  }

  TransportContext context_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Link> link_;
  Bytes body_;
  uint64_t credit_ = 0;
  uint64_t next_ = 1;   // number of the next batch
  uint64_t acked_ = 0;  // all up to here are acknowledged
  std::vector<int64_t> sent_at_;
  std::vector<double> latencies_;
};

// Bytes per second of appending kDiskBatches and one fdatasync.
class Disk {
 public:
  explicit Disk(const std::string& path)
      : fd_(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) {
    WEIR_CHECK(fd_ >= 0);
  }

  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  ~Disk() { ::close(fd_); }

  double rate(const Bytes& body) {
    const int64_t start = now_ns();
    for (size_t i = 0; i < kDiskBatches; ++i) {
      WEIR_CHECK(::write(fd_, body.data(), body.size()) == static_cast<ssize_t>(body.size()));
    }
    WEIR_CHECK(::fdatasync(fd_) == 0);
    return static_cast<double>(kDiskBatches * body.size()) * 1e9 /
           static_cast<double>(now_ns() - start);
  }

 private:
  int fd_;
};

// Bytes per second of opening one crypto_box of the body: what CURVE costs a receiver at least.
double crypto_box_rate(const Bytes& body) {
  std::array<unsigned char, crypto_box_PUBLICKEYBYTES> public_key{};
  std::array<unsigned char, crypto_box_SECRETKEYBYTES> secret_key{};
  std::array<unsigned char, crypto_box_BEFORENMBYTES> shared{};
  const std::array<unsigned char, crypto_box_NONCEBYTES> nonce{};
  crypto_box_keypair(public_key.data(), secret_key.data());
  WEIR_CHECK(crypto_box_beforenm(shared.data(), public_key.data(), secret_key.data()) == 0);
  std::vector<unsigned char> sealed(body.size() + crypto_box_MACBYTES);
  std::vector<unsigned char> opened(body.size());
  crypto_box_easy_afternm(sealed.data(), reinterpret_cast<const unsigned char*>(body.data()),
                          body.size(), nonce.data(), shared.data());
  const int64_t start = now_ns();
  for (size_t i = 0; i < kDiskBatches; ++i) {
    WEIR_CHECK(crypto_box_open_easy_afternm(opened.data(), sealed.data(), sealed.size(),
                                            nonce.data(), shared.data()) == 0);
  }
  return static_cast<double>(kDiskBatches * body.size()) * 1e9 /
         static_cast<double>(now_ns() - start);
}

double percentile(std::vector<double> values, double part) {
  WEIR_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

int run(int argc, char** argv) {
  Report report("tier", argc, argv);
  WEIR_CHECK(sodium_init() >= 0);
  const TempDir dir;
  const Window window = window_at(unix_seconds(SystemClock().now()), 3600);
  const Bytes body = make_batch(window);
  Tier tier(dir.file("tier.db"), window.width_s);
  Client client(tier.endpoint(), body);
  Disk disk(dir.file("disk"));

  const uint64_t batches = report.quick() ? 64 : 128;
  const auto [durable, written, opened] = interleaved(
      report.rounds(), [&] { return client.saturate(batches); }, [&] { return disk.rate(body); },
      [&] { return crypto_box_rate(body); });
  std::vector<double> limit;
  for (size_t i = 0; i < durable.size(); ++i) limit.push_back(std::min(written[i], opened[i]));
  const double saturated_p99 = percentile(client.latencies(), 0.99);
  const auto paced = client.paced(report.quick() ? 250 : 1000, std::chrono::milliseconds(20));

  report.figure("batch_bytes", static_cast<double>(body.size()), "B");
  report.figure("batches_per_s", median(durable) / static_cast<double>(body.size()), "/s",
                "committed before acknowledged, one sender");
  report.figure("durable_mb_per_s", median(durable) / 1e6, "MB/s");
  report.figure("disk_one_sync_mb_per_s", median(written) / 1e6, "MB/s",
                "limit: 16 batches, one fdatasync");
  report.figure("cryptobox_open_mb_per_s", median(opened) / 1e6, "MB/s",
                "limit: decrypting the same bytes");
  report.figure("durable_166k_vs_limit", median_ratio(durable, limit), "x",
                ">= 0.25; plain ZeroMQ, against the slower limit");
  report.figure("ack_p50_ms", percentile(paced, 0.5), "ms", "50 batches a second");
  report.figure("ack_p99_ms", percentile(paced, 0.99), "ms", "<= 30; 50 batches a second");
  report.figure("ack_p99_saturated_ms", saturated_p99, "ms", "4 MiB always under way");
  const std::string no_curve =
      "this version speaks plain ZeroMQ on loopback only; CURVE comes later";
  report.missing("curve_1mb_vs_cryptobox", no_curve);
  report.missing("fanin_3000_s", no_curve);
  report.missing("rss_per_peer_kib", no_curve);
  return report.print();
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) { return weir::bench::run(argc, argv); }
