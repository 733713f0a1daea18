// The traffic never suffers: the collector comes and goes under load, and shares its cgroup with
// other programs.
#ifdef WEIR_BPF

#include <fcntl.h>
#include <linux/bpf.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <numeric>

#include <bpf/bpf.h>

#include "common/fd.h"
#include "tests/kernel/requests_fixture.h"

namespace weir::kernel_test {
namespace {

// The collector's kernel half, null when it cannot run here.
std::unique_ptr<RequestProbe> attach(Obstacle& why) {
  const auto root = find_cgroup2_root("/proc/self/mountinfo");
  if (!root) {
    why.reason = root.error().message;
    return nullptr;
  }
  RequestProbe::Options options;
  options.cgroup_root = *root;
  return RequestProbe::create(options, why);
}

// Exchanges by server port that ended, or whose answer has begun, since the last time.
std::map<uint16_t, uint64_t> counted(RequestProbe& probe) {
  std::map<uint16_t, uint64_t> out;
  const auto harvest = probe.harvest(RequestProbe::Unfinished::kAll);
  EXPECT_EQ(harvest.errors, 0U);
  for (const auto& cell : harvest.cells) {
    if (cell.key.role != WEIR_ROLE_SERVER || cell.key.what == WEIR_FIRST) continue;
    out[cell.key.port] = std::accumulate(cell.n.begin(), cell.n.end(), out[cell.key.port]);
  }
  return out;
}

// ---- coming and going under load ------------------------------------------------------------

// A client at full speed in a thread of its own.
class Busy {
 public:
  explicit Busy(std::function<bool()> exchange) : exchange_(std::move(exchange)) {}

  Busy(const Busy&) = delete;

  ~Busy() { stop(); }

  void start() {
    stop_ = false;
    thread_ = std::thread([this] {
      while (!stop_) ++(exchange_() ? answered : failed);
    });
  }

  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  std::atomic<uint64_t> answered = 0;
  std::atomic<uint64_t> failed = 0;

 private:
  std::function<bool()> exchange_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST(Attachment, TwentyTimesUnderLoadNoRequestFails) {
  constexpr int kTimes = 20;
  constexpr uint64_t kMore = 500;
  Obstacle why;
  if (!attach(why)) WEIR_SKIP_IF(why.reason + "; " + why.fix);
  Server kept(answer(kReply));
  Server single(
      [](const Socket& peer, std::string_view) {
        peer.send(kReply);
        ::shutdown(peer.fd(), SHUT_WR);
      },
      Server::Threads::kOne);  // one thread for thousands of connections
  const Socket connection = kept.connect();
  const auto ask = [](const Socket& from) {
    return from.send(request("GET", "/load")) && read_responses(from, 1) == kReply.size();
  };
  Busy keeper([&] { return ask(connection); });
  Busy opener([&] {
    std::string rest;
    const Socket fresh = single.connect();
    return ask(fresh) && !fresh.receive(rest) && rest.empty();
  });
  keeper.start();
  opener.start();
  uint64_t seen = 0;
  for (int i = 0; i < kTimes; ++i) {
    const uint64_t kept_before = keeper.answered;
    const uint64_t single_before = opener.answered;
    const auto probe = attach(why);
    ASSERT_NE(probe, nullptr) << why.reason;
    std::this_thread::sleep_for(50ms);
    auto now = counted(*probe);
    // One of each client may be under way.
    EXPECT_LE(now[kept.port()], keeper.answered - kept_before + 1);
    EXPECT_LE(now[single.port()], opener.answered - single_before + 1);
    EXPECT_GT(now[kept.port()], 0U) << "round " << i;
    EXPECT_GT(now[single.port()], 0U) << "round " << i;
    seen += now[kept.port()] + now[single.port()];
  }
  keeper.stop();
  opener.stop();
  std::printf("%d times attached: %lu kept alive, %lu of a connection each, %lu of them seen\n",
              kTimes, keeper.answered.load(), opener.answered.load(), seen);
  EXPECT_EQ(keeper.failed, 0U);
  EXPECT_EQ(opener.failed, 0U);

  // The connection that was there all the time, and new ones.
  const auto last = attach(why);
  ASSERT_NE(last, nullptr) << why.reason;
  for (uint64_t i = 0; i < kMore; ++i) {
    ASSERT_TRUE(ask(connection));
    ASSERT_TRUE(ask(single.connect()));
  }
  auto exact = counted(*last);
  EXPECT_EQ(exact[kept.port()], kMore);
  EXPECT_EQ(exact[single.port()], kMore);
}

// ---- other programs on the same cgroup ------------------------------------------------------

constexpr uint32_t kMark = 0x7e57;  // SO_MARK of the packets that the other programs count

// Somebody else's program, by hand: counts what carries the mark, lets everything pass.
class OtherProgram {
 public:
  // `slot`: which number of the map's value it counts in.
  OtherProgram(const Fd& map, int slot, bpf_attach_type where, const Fd& cgroup)
      : where_(where), cgroup_(cgroup) {
    const auto at = static_cast<int16_t>(offsetof(__sk_buff, mark));
    const bpf_insn code[] = {
        {BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, at, 0},
        {BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, 4, kMark},
        {BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_VALUE, 0, map.get()},
        {0, 0, 0, 0, slot * 8},
        {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, 1},
        {BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_1, BPF_REG_2, 0, BPF_ADD},
        {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = where);
    program_ = Fd(
        bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "other", "GPL", code, std::size(code), &options));
    EXPECT_GE(program_.get(), 0);
    EXPECT_EQ(bpf_prog_attach(program_.get(), cgroup.get(), where, BPF_F_ALLOW_MULTI), 0);
  }

  OtherProgram(const OtherProgram&) = delete;

  ~OtherProgram() { EXPECT_EQ(bpf_prog_detach2(program_.get(), cgroup_.get(), where_), 0); }

 private:
  bpf_attach_type where_;
  const Fd& cgroup_;
  Fd program_;
};

class Neighbours : public ::testing::Test {
 protected:
  static constexpr size_t kSlots = 6;
  using Counters = std::array<uint64_t, kSlots>;

  void SetUp() override {
    const auto root = find_cgroup2_root("/proc/self/mountinfo");
    if (!root) WEIR_SKIP_IF(root.error().message);
    if (!attach(why_)) WEIR_SKIP_IF(why_.reason + "; " + why_.fix);
    cgroup_ = Fd(::open(root->c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    map_ = Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "others", sizeof(uint32_t), sizeof(Counters), 1,
                             nullptr));
    ASSERT_GE(map_.get(), 0);
  }

  // Both directions of one more program, behind those that are there.
  void another() {
    for (const auto where : {BPF_CGROUP_INET_INGRESS, BPF_CGROUP_INET_EGRESS}) {
      const auto slot = static_cast<int>(others_.size());
      others_.push_back(std::make_unique<OtherProgram>(map_, slot, where, cgroup_));
    }
  }

  void ask(uint64_t times) {
    const Socket client = server_.connect();
    ASSERT_EQ(::setsockopt(client.fd(), SOL_SOCKET, SO_MARK, &kMark, sizeof kMark), 0);
    for (uint64_t i = 0; i < times; ++i) {
      client.send(request("GET", "/shared"));
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }

  // What the others have counted, once all agree (an acknowledgement may still be under way).
  uint64_t counted_by_others() {
    const uint32_t zero = 0;
    Counters now{};
    for (int i = 0; i < 200; ++i) {
      EXPECT_EQ(bpf_map_lookup_elem(map_.get(), &zero, &now), 0);
      if (std::count(now.begin(), now.end(), now[0]) == std::ssize(now)) break;
      std::this_thread::sleep_for(5ms);
    }
    EXPECT_EQ(std::count(now.begin(), now.end(), now[0]), std::ssize(now))
        << ::testing::PrintToString(now);
    return now[0];
  }

  Obstacle why_;
  Fd cgroup_;
  Fd map_;
  Server server_{answer(kReply)};
  std::vector<std::unique_ptr<OtherProgram>> others_;
};

TEST_F(Neighbours, BeforeBetweenAndAfterAllCountAll) {
  constexpr uint64_t kTimes = 200;
  another();
  auto first = attach(why_);
  ASSERT_NE(first, nullptr) << why_.reason;
  another();
  const auto second = attach(why_);
  ASSERT_NE(second, nullptr) << why_.reason;
  another();

  ask(kTimes);
  const uint64_t with_all = counted_by_others();
  EXPECT_GE(with_all, kTimes);  // each request is a packet or, with its acknowledgement, two
  EXPECT_EQ(counted(*first)[server_.port()], kTimes);
  first.reset();  // one of ours leaves
  ask(kTimes);
  EXPECT_GE(counted_by_others() - with_all, kTimes);
  others_.clear();  // the others leave
  ask(kTimes);
  EXPECT_EQ(counted(*second)[server_.port()], 3 * kTimes);
}

}  // namespace
}  // namespace weir::kernel_test

#endif  // WEIR_BPF
