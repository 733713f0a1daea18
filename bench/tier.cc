// bench/run tier: what a region takes in, over CURVE, from many edges: a real weir-aggregator in a
// process of its own, which checks every batch and commits it with its ledger entry before it is
// acknowledged. Beside each figure stands what the same bytes cost at least, in the same run.
//
// With --quick there are fewer edges; limits of time and memory shrink with their number.

#include <sodium.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bench/report.h"
#include "bench/tier_edges.h"
#include "bench/tier_limits.h"
#include "bench/tier_world.h"
#include "common/log.h"
#include "common/sqlite.h"
#include "tests/fakes/temp_dir.h"

namespace weir::bench {
namespace {

constexpr size_t kBatchBytes = 166'000;  // about 1,000 series of one minute
constexpr size_t kSeries = 1'000;
constexpr size_t kSenders = 8;  // of the rates: enough that none waits for its own credit
constexpr uint64_t kBatchesOfRound = 16;
constexpr double kMiB = 1 << 20;
const std::string kHost = "edge-00000";

// One window of 1,000 latency distributions of a host. About 166 KB.
Bytes make_batch() {
  const Window window = window_at(unix_seconds(SystemClock().now()), 60);
  const Metric metric{"http_server_request_duration_seconds", Kind::kDistribution, "seconds", -9};
  const auto encode = [&](size_t samples) {
    std::vector<Labels> labels(kSeries);
    std::vector<Value> values;
    std::vector<BatchRow> rows;
    uint64_t random = 88172645463325252ULL;
    for (size_t i = 0; i < kSeries; ++i) {
      labels[i] = {{"http_route", "/api/v1/items/" + std::to_string(i)}, {"service", "shop"}};
      Distribution latency(metric.quantum);
      for (size_t n = 0; n < samples; ++n) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        must(latency.add(1'000'000 + (random % 1000) * (random % 100'000) / 10));
      }
      values.emplace_back(std::move(latency));
    }
    for (size_t i = 0; i < kSeries; ++i) rows.push_back({&metric, &labels[i], &values[i]});
    auto batches = encode_batches({window, {{"host", kHost}}, {}}, rows);
    WEIR_CHECK(batches.size() == 1);
    return std::move(batches.front().body);
  };
  size_t samples = 10;
  while (encode(samples).size() < kBatchBytes) samples += 5;
  return encode(samples);
}

// The same from another host: its name is a text of the same length.
Bytes of_host(const Bytes& batch, size_t number) {
  std::string name = std::to_string(number);
  name = kHost.substr(0, kHost.size() - name.size()) + name;
  Bytes out = batch;
  const auto place = std::search(out.begin(), out.end(), std::as_bytes(std::span(kHost)).begin(),
                                 std::as_bytes(std::span(kHost)).end());
  WEIR_CHECK(place != out.end());
  std::ranges::copy(std::as_bytes(std::span(name)), place);
  return out;
}

// Progress: a run takes minutes.
void said(const char* what) { std::fprintf(stderr, "bench tier: %s\n", what); }

double percentile(std::vector<double> values, double part) {
  WEIR_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

std::string folder(const TempDir& dir, const std::string& name) {
  std::filesystem::create_directory(dir.file(name));
  return dir.file(name);
}

void measure_rates(Report& report, const KeyRing& keys, const TempDir& dir, const Bytes& batch) {
  CurvePipe pipe(keys);
  CryptoBox large(CurvePipe::kMessage);
  const size_t messages = report.quick() ? 50 : 200;
  std::vector<double> shares;  // of crypto_box in the CPU time of who receives
  const auto pipe_rate = [&] {
    const int64_t before = pipe.receiving_cpu_ns();
    const double rate = pipe.rate(messages);
    const auto received_ns = static_cast<double>(pipe.receiving_cpu_ns() - before);
    shares.push_back(ns_per(1, [&] { large.rate(messages); }) / received_ns);
    return rate;
  };
  const auto [piped, large_opened, beside] = interleaved(
      report.quick() ? 5 : 15, pipe_rate, [&] { return large.rate(messages); },
      [&] { return large.rate_beside_sealing(messages); });
  report.figure("curve_1mb_mb_per_s", median(piped) / 1e6, "MB/s");
  report.figure("cryptobox_1mb_mb_per_s", median(large_opened) / 1e6, "MB/s");
  report.figure("cryptobox_1mb_beside_mb_per_s", median(beside) / 1e6, "MB/s",
                "opening while another thread seals, as both ends here do");
  report.figure("curve_1mb_vs_cryptobox", median_ratio(piped, large_opened), "x",
                ">= 0.75; the sender has a machine of its own");
  report.figure("curve_1mb_vs_cryptobox_beside", median_ratio(piped, beside), "x", ">= 0.75");
  report.figure("curve_1mb_vs_cryptobox_cpu", median(shares), "x",
                ">= 0.75; CPU time: crypto_box / the receiving thread");

  // One that has run for a while has room in its file, of rows that were folded. Here nothing is,
  // so that nothing else is measured; the room is made before.
  const int rounds = report.quick() ? 7 : 15;
  const uint64_t paced_batches = report.quick() ? 250 : 1000;
  const uint64_t batches = kBatchesOfRound * kSenders * static_cast<uint64_t>(rounds + 2);
  const uint64_t room = (batches + paced_batches) * batch.size();
  const TempDir memory("/dev/shm");
  const World on_disk(keys, folder(dir, "durable"), Folds::kNever, room);
  const World in_memory(keys, folder(memory, "memory"), Folds::kNever, room);
  const World growing(keys, folder(dir, "growing"), Folds::kNever);
  const auto first = std::span(keys.edges()).first(kSenders);
  const PublicKey& region = keys.region().line().key;
  Edges durable_edges(on_disk.endpoint(), region, first);
  Edges memory_edges(in_memory.endpoint(), region, first);
  Edges growing_edges(growing.endpoint(), region, first);
  const Packed packet = as_is(batch);
  const auto rate = [&](Edges& edges) {
    const double seconds = edges.send({&packet, 1}, kBatchesOfRound, milliseconds(1));
    return static_cast<double>(kBatchesOfRound * kSenders * batch.size()) / seconds;
  };
  rate(durable_edges);
  // As many as one commit has, on the average.
  const size_t together =
      std::max<size_t>(1, kBatchesOfRound * kSenders / durable_edges.take_drains().size());
  Disk disk(dir.file("disk"));
  CryptoBox box(batch.size());
  const auto [durable, kept, grown, written, opened] = interleaved(
      rounds, [&] { return rate(durable_edges); }, [&] { return rate(memory_edges); },
      [&] { return rate(growing_edges); }, [&] { return disk.rate(batch, together, 4); },
      [&] { return box.rate(100); });
  std::vector<double> limit;
  for (size_t i = 0; i < durable.size(); ++i) limit.push_back(std::min(written[i], opened[i]));
  const double saturated = percentile(durable_edges.take_latencies(), 0.99);
  durable_edges.pace(packet, paced_batches, milliseconds(20));
  const auto paced = durable_edges.take_latencies();

  const auto size = static_cast<double>(batch.size());
  report.figure("batch_bytes", size, "B", "1,000 latency distributions");
  report.figure("batches_per_commit", static_cast<double>(together), "", "8 edges, as fast as may");
  report.figure("batches_per_s", median(durable) / size, "/s", "committed before acknowledged");
  report.figure("durable_mb_per_s", median(durable) / 1e6, "MB/s", "over CURVE, checked");
  report.figure("memory_mb_per_s", median(kept) / 1e6, "MB/s", "the same in /dev/shm");
  report.figure("disk_mb_per_s", median(written) / 1e6, "MB/s",
                "limit: appending as many batches as one commit has, one fdatasync");
  report.figure("cryptobox_mb_per_s", median(opened) / 1e6, "MB/s",
                "limit: decrypting the same bytes");
  report.figure("memory_166k_vs_cryptobox", median_ratio(kept, opened), "x",
                ">= 0.45; SQLite's work included");
  report.figure("durable_166k_vs_limit", median_ratio(durable, limit), "x",
                ">= 0.25; against the slower of disk and crypto_box");
  report.figure("growing_166k_vs_limit", median_ratio(grown, limit), "x",
                "the same while the file grows, as in a region's first minutes");
  report.figure("ack_p50_ms", percentile(paced, 0.5), "ms", "50 batches a second");
  report.figure("ack_p99_ms", percentile(paced, 0.99), "ms", "<= 30; 50 batches a second");
  report.figure("ack_p99_saturated_ms", saturated, "ms", "8 x 4 MiB always under way");
}

void measure_peers(Report& report, const KeyRing& keys, const TempDir& dir) {
  const World world(keys, folder(dir, "idle"), Folds::kNever);
  const PublicKey& region = keys.region().line().key;
  { const Edges first(world.endpoint(), region, std::span(keys.edges()).first(1)); }  // it is up
  const auto peers = std::span(keys.edges()).first(report.quick() ? 500 : 2'000);
  const double before_kib = world.region().memory_kib("VmRSS");
  const double before_s = world.region().cpu_s();
  Edges edges(world.endpoint(), region, peers);
  const double handshakes_s = world.region().cpu_s() - before_s;
  edges.rest(milliseconds(3000));
  const auto count = static_cast<double>(peers.size());
  const double used_kib = world.region().memory_kib("VmRSS") - before_kib;

  std::array<unsigned char, crypto_scalarmult_BYTES> point{};
  std::array<unsigned char, crypto_scalarmult_SCALARBYTES> scalar{1, 2, 3};
  crypto_scalarmult_base(point.data(), scalar.data());
  const double x25519_ns = ns_per(1000, [&] {
    for (int i = 0; i < 1000; ++i) {
      WEIR_CHECK(crypto_scalarmult(point.data(), scalar.data(), point.data()) == 0);
    }
  });
  report.figure("idle_peers", count, "");
  report.figure("rss_per_peer_kib", used_kib / count, "KiB", "<= 48; greeted, nothing sent");
  report.figure("handshake_us", handshakes_s / count * 1e6, "us",
                "CPU of the region, HELLO and WELCOME included");
  report.figure("handshake_vs_x25519", handshakes_s / count * 1e9 / x25519_ns, "x", "<= 20");
}

// All at the same moment, as after a restart of the region.
void measure_storm(Report& report, const KeyRing& keys, const TempDir& dir) {
  const World world(keys, folder(dir, "storm"), Folds::kNever);
  const PublicKey& region = keys.region().line().key;
  { const Edges first(world.endpoint(), region, std::span(keys.edges()).first(1)); }  // it is up
  const auto peers = std::span(keys.edges()).first(report.quick() ? 600 : 3'000);
  const double before_s = world.region().cpu_s();
  const int64_t start = now_ns();
  const Edges edges(world.endpoint(), region, peers, peers.size());
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  report.figure("storm_edges", static_cast<double>(peers.size()), "", "connect at once");
  report.figure("storm_s", seconds, "s", "until all are welcomed; both ends on this machine");
  report.figure("storm_cpu_s", world.region().cpu_s() - before_s, "s", "of the region");
}

void measure_fan_in(Report& report, const KeyRing& keys, const TempDir& dir, const Bytes& batch) {
  const World world(keys, folder(dir, "fanin"), Folds::kAsByDefault);
  const auto senders = std::span(keys.edges()).first(report.quick() ? 600 : 3'000);
  std::vector<Packed> batches;
  for (size_t i = 0; i < senders.size(); ++i) batches.push_back(packed(of_host(batch, i)));
  Edges edges(world.endpoint(), keys.region().line().key, senders);
  edges.rest(milliseconds(1000));
  const double base_kib = world.region().memory_kib("VmRSS");
  world.region().forget_peak();
  const double before_s = world.region().cpu_s();
  const double seconds = edges.send(batches, 1, milliseconds(20));
  const double cpu_s = world.region().cpu_s() - before_s;
  const double peak_kib = world.region().memory_kib("VmHWM");

  auto db = must(Database::open(world.database(), {.mode = OpenMode::kReadOnly}));
  auto left = must(db.prepare("SELECT count(*) FROM inbox"));
  const int64_t start = now_ns();
  const auto inbox = [&] {
    must(left.step());
    const int64_t rows = left.integer(0);
    left.reset();
    return rows;
  };
  const int64_t patience_ns = 180'000'000'000;
  while (inbox() > 0 && now_ns() - start < patience_ns) edges.rest(milliseconds(200));
  const bool folded = inbox() == 0;
  const double folded_s = seconds + static_cast<double>(now_ns() - start) / 1e9;

  const auto count = static_cast<double>(senders.size());
  const double share = count / 3000;
  // All that may be under way at a time: 256 MiB shared, 4 MiB at most, and always one batch.
  const double credit_mib =
      count * std::max(std::min(256 / count, 4.0), static_cast<double>(batch.size()) / kMiB);
  const auto limit = [](double value, const char* unit) {
    return "<= " + std::to_string(static_cast<int>(std::lround(value))) + unit;
  };
  report.figure("fan_in_edges", count, "", "all at once, 1,000 series each");
  report.figure("fan_in_wire_kb", static_cast<double>(batches.front().body.size()) / 1e3, "KB",
                "of a batch, compressed");
  report.figure("fan_in_s", seconds, "s", limit(10 * share, "; until all are acknowledged"));
  report.figure("fan_in_cpu_s", cpu_s, "s", "of the region");
  report.figure("fan_in_resent", static_cast<double>(edges.resent()), "", "copies: no answer yet");
  report.figure("fan_in_overload", static_cast<double>(edges.refused(kNackOverload)), "",
                "of these refused for now: the region held all it may");
  report.figure("fan_in_rss_mb", peak_kib / 1024, "MiB",
                limit(base_kib / 1024 + credit_mib, ": before, and each edge's credit or batch"));
  report.figure("fan_in_rss_base_mb", base_kib / 1024, "MiB", "with all edges connected");
  if (folded) {
    report.figure("fan_in_folded_s", folded_s, "s",
                  limit(60 * share, "; until all is merged, folds are due each 10 s"));
  } else {
    report.missing("fan_in_folded_s", "not all was merged within 180 s");
  }
}

// A log of 16 MB, as a kill leaves it.
double reopen_ms(const TempDir& dir) {
  const std::string path = dir.file("killed.db");
  {
    auto db = must(Database::open(dir.file("wal.db"), {.wal_autocheckpoint = 0}));
    must(db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body)"));
    auto insert = must(db.prepare("INSERT INTO t(body) VALUES(?)"));
    const Bytes body(kBatchBytes);
    for (size_t i = 0; i < (size_t{16} << 20) / kBatchBytes; ++i) {
      must(insert.bind(1, ByteView(body)).run());
    }
    std::filesystem::copy_file(dir.file("wal.db"), path);
    std::filesystem::copy_file(dir.file("wal.db-wal"), path + "-wal");
  }
  const int64_t start = now_ns();
  auto db = must(Database::open(path));
  auto read = must(db.prepare("SELECT count(*) FROM t"));
  must(read.step());
  keep(read.integer(0));
  return static_cast<double>(now_ns() - start) / 1e6;
}

int run(int argc, char** argv) {
  Report report("tier", argc, argv);
  log::set_level(log::Level::kError);
  const TempDir dir;
  const KeyRing keys(folder(dir, "keys"), report.quick() ? 600 : 3'000);
  const Bytes batch = make_batch();
  said("fan-in");
  measure_fan_in(report, keys, dir, batch);
  said("peers");
  measure_peers(report, keys, dir);
  said("storm");
  measure_storm(report, keys, dir);
  said("rates");
  measure_rates(report, keys, dir, batch);
  report.figure("reopen_16mb_wal_ms", reopen_ms(dir), "ms", "<= 50");
  return report.print();
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) { return weir::bench::run(argc, argv); }
