// The traffic never suffers: whatever packet the request programs see, the verdict is "pass" and
// the packet is what it was. Packets by BPF_PROG_TEST_RUN, up to what the kernel takes in one call.
#ifdef WEIR_BPF

#include <arpa/inet.h>
#include <linux/bpf.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <numeric>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "bpf/http_parse.h"
#include "tests/kernel/requests_fixture.h"
#include "tests/kernel/wild_http.h"
// needs the structs of the headers above
#include "bpf/requests.skel.h"
#include "common/sketch/index_table.h"

namespace weir::kernel_test {
namespace {

constexpr size_t kEthernet = 14;
constexpr size_t kLongest = 65536;
constexpr uint16_t kNoProtocol = 0x88b5;  // the test run reads no addresses, so any length is fine
constexpr uint64_t kSeeds = 8;
constexpr int kPacketsPerSeed = 50'000;

struct SkeletonDeleter {
  void operator()(requests_bpf* skeleton) const { requests_bpf__destroy(skeleton); }
};

void put16(std::string& into, size_t at, uint64_t value) {
  into[at] = static_cast<char>(value >> 8);
  into[at + 1] = static_cast<char>(value);
}

// Ethernet, IP and TCP (no options) before `payload`, all of it right.
std::string packet(Family family, std::string_view payload) {
  const size_t ip = family == Family::kV4 ? 20 : 40;
  std::string out(kEthernet + ip + 20, '\0');
  put16(out, 12, kNoProtocol);
  if (family == Family::kV4) {
    out[kEthernet] = 0x45;
    put16(out, kEthernet + 2, ip + 20 + payload.size());
    out[kEthernet + 9] = IPPROTO_TCP;
  } else {
    out[kEthernet] = 0x60;
    put16(out, kEthernet + 4, 20 + payload.size());
    out[kEthernet + 6] = IPPROTO_TCP;
  }
  const size_t tcp = kEthernet + ip;
  put16(out, tcp, 40'000);
  put16(out, tcp + 2, 80);
  out[tcp + 12] = 0x50;
  return out.append(payload);
}

class PacketFuzz : public ::testing::Test {
 protected:
  void SetUp() override {
    BpfLog log;
    skeleton_.reset(requests_bpf__open());
    ASSERT_NE(skeleton_, nullptr);
    skeleton_->rodata->any_protocol = 1;
    const auto slots = index_table(WEIR_SCALE, -9).slots();
    std::memcpy(&skeleton_->rodata->index_slots, slots.data(), slots.size_bytes());
    const int error = requests_bpf__load(skeleton_.get());
    if (error != 0) {
      const auto held = effective_capabilities();
      constexpr Capability kNeeded[] = {Capability::kBpf, Capability::kPerfmon,
                                        Capability::kNetAdmin};
      const auto why = explain_bpf_failure("loading the request program", error, kNeeded,
                                           held.ok() ? *held : 0, log.text());
      WEIR_SKIP_IF(why.reason + "; " + why.fix);
    }
    const auto programs = {skeleton_->progs.weir_ingress, skeleton_->progs.weir_egress};
    for (const auto* program : programs) programs_.push_back(bpf_program__fd(program));
  }

  // 0, or why the kernel did not run it.
  int run(int program, const std::string& in) {
    out_.assign(in.size() + 1, '\x55');
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in.data(), .data_out = out_.data(),
                .data_size_in = static_cast<__u32>(in.size()),
                .data_size_out = static_cast<__u32>(out_.size()));
    if (bpf_prog_test_run_opts(program, &options) != 0) return errno;
    verdict_ = options.retval;
    out_.resize(options.data_size_out);
    slowest_ns_ = std::max(slowest_ns_, options.duration);
    return 0;
  }

  // The test run zeroes the Ethernet header that it took away; the programs never see it.
  [[nodiscard]] bool passed(const std::string& in) const {
    return verdict_ == 1 && out_.size() == in.size() &&
           std::string_view(out_).substr(kEthernet) == std::string_view(in).substr(kEthernet);
  }

  uint64_t stat(uint32_t what) {
    std::vector<uint64_t> values(static_cast<size_t>(libbpf_num_possible_cpus()));
    EXPECT_EQ(bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.stats), &what, values.data()), 0);
    return std::accumulate(values.begin(), values.end(), uint64_t{0});
  }

  // The paths the parser found in request heads.
  std::vector<std::string> routes() {
    std::vector<std::string> found;
    const int map = bpf_map__fd(skeleton_->maps.routes);
    weir_route_key key{};
    for (bool first = true; bpf_map_get_next_key(map, first ? nullptr : &key, &key) == 0;) {
      first = false;
      weir_route_path path{};
      if (bpf_map_lookup_elem(map, &key, &path) != 0) continue;
      const auto* text = reinterpret_cast<const char*>(path.bytes);
      found.emplace_back(text, std::find(text, text + sizeof path.bytes, ' '));
    }
    return found;
  }

  size_t longest_taken() {
    size_t taken = 0;
    for (size_t step = kLongest; step > 0; step /= 2) {
      if (taken + step <= kLongest && run(programs_[0], std::string(taken + step, '\0')) == 0) {
        taken += step;
      }
    }
    return taken;
  }

  std::unique_ptr<requests_bpf, SkeletonDeleter> skeleton_;
  std::vector<int> programs_;
  std::string out_;
  uint32_t verdict_ = 0;
  uint32_t slowest_ns_ = 0;
};

TEST_F(PacketFuzz, TheParserIsReachedInATestRun) {
  uint64_t tls = 0;
  uint64_t seen = 0;
  for (const int program : programs_) {
    for (const auto family : {Family::kV4, Family::kV6}) {
      const auto path = "/reached/" + std::string(++seen, 'x');
      auto in = packet(family, request("GET", path));
      ASSERT_EQ(run(program, in), 0);
      EXPECT_TRUE(passed(in));
      const auto found = routes();
      EXPECT_EQ(found.size(), seen);
      EXPECT_EQ(std::count(found.begin(), found.end(), path), 1) << path;
      in = packet(family, std::string("\x16\x03\x01\0\x40\x01 a hello", 16));
      ASSERT_EQ(run(program, in), 0);
      EXPECT_TRUE(passed(in));
      EXPECT_EQ(stat(WEIR_STAT_TLS), ++tls);
    }
  }
}

TEST_F(PacketFuzz, EveryPacketPassesUnchanged) {
  const size_t most = longest_taken();
  ASSERT_GT(most, 2048U);
  uint64_t refused = 0;
  size_t longest = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    WildHttp wild(seed);
    for (int i = 0; i < kPacketsPerSeed; ++i) {
      const auto family = wild.below(2) == 0 ? Family::kV4 : Family::kV6;
      const size_t headers = kEthernet + (family == Family::kV4 ? 40U : 60U);
      auto in = wild.below(32) == 0 ? wild.noise(kEthernet + wild.below(most - kEthernet + 1))
                                    : packet(family, wild.bytes(most - headers));
      // Headers: wrong bytes, a TCP header longer than the packet or too short, cut anywhere.
      if (wild.below(4) == 0) {
        for (uint64_t n = 1 + wild.below(3); n > 0; --n) {
          in[wild.below(std::min(headers, in.size()))] = static_cast<char>(wild.below(256));
        }
      }
      if (wild.below(8) == 0 && in.size() >= headers) {
        in[headers - 8] = static_cast<char>(wild.below(16) << 4);
      }
      if (wild.below(16) == 0) in.resize(kEthernet + wild.below(in.size() - kEthernet + 1));
      longest = std::max(longest, in.size());
      const int program = programs_[wild.below(programs_.size())];
      if (run(program, in) != 0) {
        ++refused;
        continue;
      }
      ASSERT_TRUE(passed(in)) << "seed " << seed << ", packet " << i << ", verdict " << verdict_;
    }
  }
  std::printf("seeds 1..%lu, %d packets each, 14..%zu bytes, refused by the kernel %lu\n", kSeeds,
              kPacketsPerSeed, longest, refused);
  std::printf("slowest packet %u ns; routes %zu", slowest_ns_, routes().size());
  for (uint32_t what = 0; what < WEIR_STATS; ++what) {
    std::printf(", %s %lu", request_stat_name(what).data() + sizeof "weir_ebpf", stat(what));
  }
  std::printf("\n");
  EXPECT_LT(refused, kSeeds * kPacketsPerSeed / 100);
  EXPECT_GT(routes().size(), 1000U);
  for (const auto what : {WEIR_STAT_TLS, WEIR_STAT_HTTP2, WEIR_STAT_OPAQUE, WEIR_STAT_IP_OPTIONS,
                          WEIR_STAT_UNMATCHED}) {
    EXPECT_GT(stat(what), 100U) << request_stat_name(what);
  }
}

}  // namespace
}  // namespace weir::kernel_test

#endif  // WEIR_BPF
