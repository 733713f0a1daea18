#include "daemon/statsd/statsd_source.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/fakes/fake_clock.h"
#include "tests/fakes/file_size_limit.h"
#include "tests/fakes/recorded.h"
#include "tests/fakes/temp_dir.h"

namespace weir::daemon {
namespace {

class Client {
 public:
  explicit Client(const std::string& udp_or_path) {
    if (udp_or_path.starts_with('/')) {
      fd_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::memcpy(address.sun_path, udp_or_path.data(), udp_or_path.size());
      connect(&address, sizeof address);
    } else {
      auto address = *statsd::parse_udp_address(udp_or_path);
      fd_ = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      connect(&address.storage, address.size);
    }
  }

  [[nodiscard]] bool send(std::string_view text) const {
    return ::send(fd_.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
  }

 private:
  void connect(const void* address, socklen_t size) const {
    WEIR_CHECK(::connect(fd_.get(), static_cast<const sockaddr*>(address), size) == 0);
  }

  Fd fd_;
};

class StatsdSourceTest : public testing::Test {
 protected:
  StatsdConfig config() {
    return {.enabled = true,
            .udp = "127.0.0.1:0",
            .unix_path = dir_.file("run/statsd.sock"),
            .receive_buffer = uint64_t{4} << 20,
            .journal_path = ""};
  }

  void start(StatsdSource& source, std::optional<uint64_t> committed = {}) {
    source.start({*loop_, worker_, recorder_, clock_, committed});
  }

  static std::string udp_of(const StatsdSource& source) {
    const auto open = source.open_sockets();
    WEIR_CHECK(!open.empty() && open.front().starts_with("udp "));
    return open.front().substr(4);
  }

  static uint64_t counter(const StatsdSource& source, std::string_view name) {
    for (const auto& [key, value] : source.status().counters) {
      if (key == name) return value;
    }
    return 0;
  }

  uint64_t total(const std::string& series) {
    const auto all = recorded(recorder_);
    return all.contains(series) ? std::get<Counter>(all.at(series)).delta : 0;
  }

  TempDir dir_;
  FakeClock clock_;
  Recorder recorder_{RecorderLimits{}, clock_.now()};
  Worker worker_{"test"};
  std::unique_ptr<Loop> loop_ = *Loop::create();
};

constexpr const char* kKernelDrops = R"(weir_dropped_total{where="statsd",reason="kernel"})";

TEST_F(StatsdSourceTest, DatagramsOfBothSocketsAreRecordedWhenTheLoopTurns) {
  StatsdSource source(config());
  start(source);
  EXPECT_EQ(source.status().state, SourceState::kRunning) << source.status().reason;
  const Client udp(udp_of(source));
  const Client unix_socket(dir_.file("run/statsd.sock"));
  ASSERT_TRUE(udp.send("a:1|c"));
  ASSERT_TRUE(unix_socket.send("a:2|c\na:3|c"));
  loop_->turn(std::chrono::hours(1));
  source.drain(clock_.now(), Source::Drain::kRegular);
  EXPECT_EQ(total("a"), 6u);
  EXPECT_EQ(counter(source, "weir_statsd_packets_total"), 2u);
  source.stop();
}

TEST_F(StatsdSourceTest, FinalDrainReadsAllThatWaitsInTheSockets) {
  StatsdSource source(config());
  start(source);
  const Client udp(udp_of(source));
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(udp.send("a:1|c"));
  source.drain(clock_.now(), Source::Drain::kFinal);
  source.stop();
  EXPECT_EQ(total("a") + counter(source, kKernelDrops), 1000u);
}

TEST_F(StatsdSourceTest, EveryDatagramTheKernelDropsIsCounted) {
  auto small = config();
  small.receive_buffer = 4096;
  StatsdSource source(small);
  start(source);
  const Client udp(udp_of(source));
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(udp.send("a:1|c"));
  source.drain(clock_.now(), Source::Drain::kRegular);
  const uint64_t dropped = counter(source, kKernelDrops);
  EXPECT_GT(dropped, 0u);
  EXPECT_EQ(total("a") + dropped, 2000u);
  source.stop();
}

TEST_F(StatsdSourceTest, FullUnixSocketTellsTheSenderAndLosesNothing) {
  StatsdSource source(config());
  start(source);
  const Client client(dir_.file("run/statsd.sock"));
  uint64_t sent = 0;
  while (sent < 100'000 && client.send("a:1|c")) ++sent;
  EXPECT_LT(sent, 100'000u);
  EXPECT_EQ(errno, EAGAIN);
  source.drain(clock_.now(), Source::Drain::kRegular);
  EXPECT_EQ(total("a"), sent);
  EXPECT_TRUE(client.send("a:1|c"));
  source.stop();
}

TEST_F(StatsdSourceTest, SocketFileIsForEverybodyAndGoesWithTheSource) {
  StatsdSource source(config());
  start(source);

  struct stat info {};

  ASSERT_EQ(::stat(dir_.file("run/statsd.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0666u);
  source.stop();
  EXPECT_FALSE(std::filesystem::exists(dir_.file("run/statsd.sock")));
}

TEST_F(StatsdSourceTest, StaleSocketIsReplacedALiveOneAndAFileAreNot) {
  const auto path = dir_.file("run/statsd.sock");
  {
    auto stale = statsd::open_unix(path, 4096);  // closed without removing its file
    ASSERT_TRUE(stale.ok());
  }
  ASSERT_TRUE(std::filesystem::exists(path));
  StatsdSource first(config());
  start(first);
  EXPECT_EQ(first.status().state, SourceState::kRunning) << first.status().reason;

  StatsdSource second(config());
  start(second);
  EXPECT_EQ(second.status().state, SourceState::kDegraded);
  EXPECT_EQ(second.status().reason, path + " is in use by another process");
  second.stop();
  EXPECT_TRUE(std::filesystem::exists(path));  // still the first one's
  first.stop();

  std::ofstream(path) << "precious";
  StatsdSource third(config());
  start(third);
  EXPECT_EQ(third.status().reason, path + " exists and is no socket");
  EXPECT_TRUE(std::filesystem::exists(path));
  third.stop();
}

TEST_F(StatsdSourceTest, InheritedSocketIsUsedInPlaceOfItsOwn) {
  auto held = statsd::open_udp("127.0.0.1:0", 1 << 20);
  ASSERT_TRUE(held.ok());
  const std::string address = held->what.substr(4);
  ASSERT_TRUE(Client(address).send("a:7|c"));  // before anybody reads
  std::vector<Fd> fds;
  fds.push_back(std::move(held->fd));
  StatsdSource source(config(), std::move(fds));
  start(source);
  EXPECT_EQ(udp_of(source), address);
  EXPECT_EQ(source.open_sockets().size(), 2u);  // the unix socket is its own
  source.drain(clock_.now(), Source::Drain::kRegular);
  EXPECT_EQ(total("a"), 7u);
  source.stop();
}

TEST_F(StatsdSourceTest, WhatWasTakenAndNotCommittedIsReplayedOnce) {
  auto with_journal = config();
  with_journal.journal_path = dir_.file("journal");
  uint64_t position = 0;
  {
    StatsdSource source(with_journal);
    start(source);
    const Client udp(udp_of(source));
    ASSERT_TRUE(udp.send("a:1|c"));
    source.drain(clock_.now(), Source::Drain::kRegular);
    position = source.journal_position();
    source.committed(position);
    EXPECT_EQ(total("a"), 1u);
    ASSERT_TRUE(udp.send("a:20|c"));
    source.drain(clock_.now(), Source::Drain::kRegular);
    EXPECT_EQ(total("a"), 20u);  // recorded, never committed: the process dies here
  }
  StatsdSource next(with_journal);
  start(next, position);
  EXPECT_EQ(total("a"), 20u);
  next.stop();
}

TEST_F(StatsdSourceTest, ReplayedPushesBelongToTheTimeTheyCameHoweverLongTheProcessWasDown) {
  auto with_journal = config();
  with_journal.journal_path = dir_.file("journal");
  const int64_t came = window_at(unix_seconds(clock_.now()), 60).start_s;
  {
    StatsdSource source(with_journal);
    start(source);
    ASSERT_TRUE(Client(udp_of(source)).send("a:5|c"));
    source.drain(clock_.now(), Source::Drain::kRegular);
    EXPECT_EQ(total("a"), 5u);  // never committed
  }
  clock_.advance(std::chrono::hours(3));
  recorder_.advance(clock_.now());
  StatsdSource next(with_journal);
  start(next, 0);
  EXPECT_EQ(recorder_.open_windows(), std::vector<int64_t>{came});
  EXPECT_EQ(total("a"), 5u);
  next.stop();
}

TEST_F(StatsdSourceTest, JournalThatCannotBeReservedLeavesTheSourceDegradedAndReceiving) {
  auto with_journal = config();
  with_journal.journal_path = dir_.file("journal");
  StatsdSource source(with_journal);
  {
    const FileSizeLimit limit(1 << 20);
    start(source, 7);
  }
  EXPECT_EQ(source.status().state, SourceState::kDegraded);
  EXPECT_NE(source.status().reason.find("reserving"), std::string::npos) << source.status().reason;
  EXPECT_EQ(std::filesystem::file_size(dir_.file("journal")), 0u);  // takes no space in vain
  ASSERT_TRUE(Client(udp_of(source)).send("a:5|c"));
  source.drain(clock_.now(), Source::Drain::kRegular);
  EXPECT_EQ(total("a"), 5u);
  EXPECT_EQ(source.journal_position(),
            7u);  // what an earlier journal holds is still to be replayed
  source.stop();
}

TEST_F(StatsdSourceTest, WithoutADiskTheJournalWaitsForTheNextStartThatHasOne) {
  auto with_journal = config();
  with_journal.journal_path = dir_.file("journal");
  {
    StatsdSource source(with_journal);
    start(source, 0);
    ASSERT_TRUE(Client(udp_of(source)).send("orders:5|c"));
    source.drain(clock_.now(), Source::Drain::kFinal);
    source.stop();
  }
  EXPECT_EQ(total("orders"), 5u);
  {
    StatsdSource in_memory(with_journal);
    in_memory.start({*loop_, worker_, recorder_, clock_, std::nullopt, false});
    ASSERT_TRUE(Client(udp_of(in_memory)).send("orders:7|c"));
    in_memory.drain(clock_.now(), Source::Drain::kFinal);
    in_memory.committed(in_memory.journal_position());
    in_memory.stop();
  }
  EXPECT_EQ(total("orders"), 7u);  // since the last look
  StatsdSource next(with_journal);
  start(next, 0);
  EXPECT_EQ(total("orders"), 5u);  // what was not committed to a disk, and nothing else
  next.stop();
}

TEST_F(StatsdSourceTest, JournalOfAnotherOutboxIsNotReplayed) {
  auto with_journal = config();
  with_journal.journal_path = dir_.file("journal");
  {
    StatsdSource source(with_journal);
    start(source);
    ASSERT_TRUE(Client(udp_of(source)).send("a:1|c"));
    source.drain(clock_.now(), Source::Drain::kRegular);
    EXPECT_EQ(total("a"), 1u);
  }
  StatsdSource next(with_journal);
  start(next);  // nothing was ever committed by this outbox
  EXPECT_EQ(total("a"), 0u);
  next.stop();
}

TEST_F(StatsdSourceTest, FullJournalAsksForACommitThenLeavesDatagramsInTheirSocket) {
  StatsdSource source(config());
  start(source);
  const Client client(dir_.file("run/statsd.sock"));
  const std::string big = "a:1|c\n" + std::string(60'000, '\n');
  uint64_t sent = 0;
  for (int round = 0; round < 200; ++round) {
    while (client.send(big)) ++sent;
    loop_->turn(std::chrono::milliseconds(0));
  }
  EXPECT_TRUE(source.wants_commit());
  EXPECT_FALSE(client.send(big));  // the queue stays full: nobody reads
  source.committed(source.journal_position());
  EXPECT_FALSE(source.wants_commit());
  source.drain(clock_.now(), Source::Drain::kRegular);
  EXPECT_EQ(total("a"), sent);
  source.stop();
}

TEST_F(StatsdSourceTest, AddressIsNumbersAndAPort) {
  for (const char* good : {"127.0.0.1:8125", "0.0.0.0:0", "[::1]:8125"}) {
    EXPECT_TRUE(statsd::parse_udp_address(good).ok()) << good;
  }
  for (const char* bad : {"", ":8125", "localhost:8125", "127.0.0.1",
                          "127.0.0.1:", "127.0.0.1:99999", "::1:8125x", "127.0.0.1:-1"}) {
    EXPECT_FALSE(statsd::parse_udp_address(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace weir::daemon
