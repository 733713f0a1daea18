#include "daemon/statsd/packet_journal.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

constexpr size_t kLog = PacketJournal::kMinLogBytes;
const UnixTime kNow{std::chrono::seconds(1'795'158'000)};

class PacketJournalTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "weir-journal-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets_.data()), 0);
  }

  void TearDown() override {
    ::close(sockets_[0]);
    ::close(sockets_[1]);
    std::filesystem::remove_all(folder_);
  }

  PacketJournal open(const std::string& boot = "boot-1") {
    auto journal = PacketJournal::open(folder_ + "/journal", kLog, boot);
    EXPECT_TRUE(journal.ok());
    return *std::move(journal);
  }

  void send(const std::string& text) {
    ASSERT_EQ(::send(sockets_[0], text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }

  std::vector<std::string> receive(PacketJournal& journal) {
    std::vector<std::string> got;
    EXPECT_TRUE(journal
                    .receive(sockets_[1], kNow,
                             [&](std::string_view packet, UnixTime at) {
                               EXPECT_EQ(at, kNow);
                               got.emplace_back(packet);
                             })
                    .ok());
    return got;
  }

  static std::vector<std::string> replay(PacketJournal& journal, uint64_t committed) {
    std::vector<std::string> got;
    journal.replay(committed, [&](std::string_view packet, UnixTime at) {
      EXPECT_EQ(at, kNow);
      got.emplace_back(packet);
    });
    return got;
  }

  std::string folder_;
  std::array<int, 2> sockets_{};
};

using Strings = std::vector<std::string>;

}  // namespace

TEST_F(PacketJournalTest, WhatWasReceivedAndNotCommittedIsReplayed) {
  {
    PacketJournal journal = open();
    send("a:1|c");
    send("b:2|c");
    EXPECT_EQ(receive(journal), (Strings{"a:1|c", "b:2|c"}));
    EXPECT_EQ(journal.seq(), 1U);
    send("c:3|c");
    EXPECT_EQ(receive(journal), Strings{"c:3|c"});
  }
  PacketJournal again = open();
  EXPECT_EQ(again.seq(), 2U);
  EXPECT_EQ(replay(again, 0), (Strings{"a:1|c", "b:2|c", "c:3|c"}));
  EXPECT_EQ(replay(again, 1), Strings{"c:3|c"});
  EXPECT_EQ(replay(again, 2), Strings{});
}

TEST_F(PacketJournalTest, CommittingEverythingFreesTheLogAndGoesOnNumbering) {
  PacketJournal journal = open();
  send("a:1|c");
  receive(journal);
  journal.committed(1);
  EXPECT_EQ(replay(journal, 0), Strings{});
  send("b:1|c");
  receive(journal);
  EXPECT_EQ(journal.seq(), 2U);
  EXPECT_EQ(replay(journal, 1), Strings{"b:1|c"});
}

TEST_F(PacketJournalTest, CommittingAnOlderBatchKeepsTheNewer) {
  PacketJournal journal = open();
  send("a:1|c");
  receive(journal);
  send("b:1|c");
  receive(journal);
  journal.committed(1);
  EXPECT_EQ(replay(journal, 1), Strings{"b:1|c"});
}

TEST_F(PacketJournalTest, AKillAtAnyMomentLosesAndRepeatsNothing) {
  // The child takes packets and reports each batch's commit through a pipe, until it is killed.
  constexpr uint64_t kPackets = 4000;
  std::array<int, 2> commits{};
  ASSERT_EQ(::pipe(commits.data()), 0);
  uint64_t next = 0;
  uint64_t committed_seq = 0;
  std::vector<std::string> seen;
  for (int round = 0; round < 8; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto journal = PacketJournal::open(folder_ + "/journal", kLog, "boot-1");
      if (!journal.ok()) ::_exit(1);
      journal->replay(committed_seq, [](std::string_view, UnixTime) {});
      while (true) {
        if (!journal->receive(sockets_[1], kNow, [](std::string_view, UnixTime) {}).ok())
          ::_exit(1);
        const uint64_t taken = journal->seq();
        if (::write(commits[1], &taken, sizeof taken) != sizeof taken) ::_exit(1);
      }
    }
    for (const uint64_t until = next + kPackets / 8; next < until; ++next) {
      send(std::to_string(next));  // blocks while the child's queue is full
    }
    uint64_t taken = 0;
    ASSERT_EQ(::read(commits[0], &taken, sizeof taken), static_cast<ssize_t>(sizeof taken));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    PacketJournal after = open();
    for (auto& text : replay(after, committed_seq)) seen.push_back(text);
    committed_seq = after.seq();
    after.committed(committed_seq);
    // Empty the pipe for the next round.
    ::close(commits[0]);
    ::close(commits[1]);
    ASSERT_EQ(::pipe(commits.data()), 0);
  }
  PacketJournal journal = open();
  journal.replay(committed_seq, [](std::string_view, UnixTime) {});
  for (Strings more = receive(journal); !more.empty(); more = receive(journal)) {
    seen.insert(seen.end(), more.begin(), more.end());
  }
  ASSERT_EQ(seen.size(), next);
  for (uint64_t i = 0; i < next; ++i) EXPECT_EQ(seen[i], std::to_string(i));
  ::close(commits[0]);
  ::close(commits[1]);
}

TEST_F(PacketJournalTest, AJournalOfAnotherBootIsDiscardedAndItsNumbersAreNotReused) {
  uint64_t before = 0;
  {
    PacketJournal journal = open("boot-1");
    send("a:1|c");
    receive(journal);
    before = journal.seq();
  }
  PacketJournal other = open("boot-2");
  EXPECT_TRUE(other.discarded_other_boot());
  EXPECT_EQ(replay(other, 0), Strings{});
  EXPECT_GT(other.seq(), before);
}

TEST_F(PacketJournalTest, ANewJournalBesideAnOldOutboxGoesOnFromTheOutboxsNumber) {
  PacketJournal journal = open();
  EXPECT_EQ(replay(journal, 41), Strings{});
  send("a:1|c");
  receive(journal);
  EXPECT_EQ(journal.seq(), 42U);
  EXPECT_EQ(replay(journal, 41), Strings{"a:1|c"});
}

TEST_F(PacketJournalTest, AnOlderJournalPutBackIsAllCommitted) {
  {
    PacketJournal journal = open();
    send("a:1|c");
    receive(journal);
  }
  PacketJournal old = open();
  EXPECT_EQ(replay(old, 41), Strings{});
  EXPECT_EQ(old.seq(), 41U);
  EXPECT_FALSE(old.full());
}

TEST_F(PacketJournalTest, IsFullBeforeABatchCouldNotFit) {
  PacketJournal journal = open();
  const std::string big(60'000, 'x');
  size_t batches = 0;
  while (!journal.full()) {
    send(big);
    ASSERT_EQ(receive(journal).size(), 1U);
    ++batches;
  }
  EXPECT_GT(batches, 100U);
  journal.committed(journal.seq());
  EXPECT_FALSE(journal.full());
}

TEST_F(PacketJournalTest, ADatagramLongerThanASlotIsCountedAndNotDelivered) {
  PacketJournal journal = open();
  send(std::string(PacketJournal::kSlotBytes + 1, 'x'));
  send("a:1|c");
  Strings got;
  const auto received = journal.receive(
      sockets_[1], kNow, [&](std::string_view packet, UnixTime) { got.emplace_back(packet); });
  ASSERT_TRUE(received.ok());
  EXPECT_EQ(received->truncated, 1U);
  EXPECT_EQ(got, Strings{"a:1|c"});
}

}  // namespace weir::daemon
