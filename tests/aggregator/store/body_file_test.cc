// BodyFile: what is taken is never written over, what is free is found again, and a fault of the
// disk is an answer; and the Store's use of it.

#include "aggregator/store/body_file.h"

#include <cerrno>
#include <fstream>
#include <map>
#include <random>

#include "common/batch.h"
#include "tests/aggregator/store/store_fixture.h"

namespace weir::aggregator::store_test {
namespace {

constexpr uint64_t kStep = uint64_t{1} << 20;
constexpr uint64_t kSector = 512;

Bytes body_of(size_t size, uint8_t fill) { return Bytes(size, std::byte{fill}); }

class BodyFileTest : public testing::Test {
 protected:
  Result<BodyFile> open(BodyFileOptions options = {}, std::vector<BodySpan> taken = {}) {
    return BodyFile::open(path_, std::move(options), std::move(taken));
  }

  [[nodiscard]] Bytes at(const BodySpan& span) const {
    std::ifstream file(path_, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(span.place));
    std::string text(span.size, '\0');
    file.read(text.data(), static_cast<std::streamsize>(span.size));
    EXPECT_TRUE(file.good());
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
  }

  TempDir dir_;
  std::string path_ = dir_.file("bodies");
};

TEST_F(BodyFileTest, WhatIsTakenStaysAsItWasWhateverElseComesAndGoes) {
  std::mt19937_64 random(7);
  auto file = open();
  ASSERT_TRUE(file.ok());
  std::map<uint64_t, std::pair<uint64_t, uint8_t>> kept;  // place -> size, fill
  const auto used = [&] {
    uint64_t sum = 0;
    for (const auto& [place, body] : kept) sum += (body.first + kSector - 1) / kSector * kSector;
    return sum;
  };
  for (int round = 0; round < 400; ++round) {
    std::map<uint64_t, std::pair<uint64_t, uint8_t>> written;
    for (uint64_t i = random() % 8; i > 0; --i) {
      const size_t size = random() % 20'000 + 1;
      const auto fill = static_cast<uint8_t>(random() % 255 + 1);
      const auto place = file->write(body_of(size, fill));
      ASSERT_TRUE(place.ok());
      ASSERT_TRUE(written.emplace(*place, std::pair{size, fill}).second);
      ASSERT_FALSE(kept.contains(*place));
    }
    ASSERT_TRUE(file->sync().ok());
    if (random() % 4 == 0) {
      file->drop();
    } else {
      file->keep();
      kept.insert(written.begin(), written.end());
    }
    std::vector<BodySpan> gone;
    std::erase_if(kept, [&](const auto& body) {
      if (random() % 3 != 0) return false;
      gone.push_back({body.first, body.second.first});
      return true;
    });
    file->give_back(gone);
    ASSERT_EQ(file->file_bytes() - file->free_bytes(), used());
    if (random() % 20 != 0) continue;
    std::vector<BodySpan> taken;
    for (const auto& [place, body] : kept) {
      taken.push_back({place, body.first});
      ASSERT_EQ(at(taken.back()), body_of(body.first, body.second));
    }
    file = open({}, taken);
    ASSERT_TRUE(file.ok());
    ASSERT_EQ(file->file_bytes() - file->free_bytes(), used());
  }
  EXPECT_LE(file->file_bytes(), 4 * kStep);  // what was given back was used again
  file->give_back_all();
  EXPECT_EQ(file->free_bytes(), file->file_bytes());
}

TEST_F(BodyFileTest, WhatWasGivenBackLastIsTakenAgainLast) {
  auto file = open();
  const uint64_t first = *file->write(body_of(100, 1));
  ASSERT_TRUE(file->sync().ok());
  file->keep();
  file->give_back({{first, 100}});
  for (uint64_t i = 1; i < kStep / kSector; ++i) EXPECT_NE(*file->write(body_of(100, 2)), first);
  EXPECT_EQ(*file->write(body_of(100, 3)), first);
  EXPECT_EQ(file->file_bytes(), kStep);
}

TEST_F(BodyFileTest, TwoRowsWithOnePlaceAreADamagedDatabase) {
  for (const auto& taken : std::vector<std::vector<BodySpan>>{
           {{0, 600}, {512, 10}}, {{0, 10}, {0, 10}}, {{7, 10}}, {{UINT64_MAX - 511, 10}}}) {
    const auto file = open({}, taken);
    ASSERT_FALSE(file.ok());
    EXPECT_EQ(file.error().code, Errc::kIo);
  }
}

TEST_F(BodyFileTest, AFileThatWasCutTakesNewBodiesWhereNoRowPoints) {
  auto file = open({}, {{4 * kSector, 100}});  // of an empty file
  ASSERT_TRUE(file.ok());
  for (int i = 0; i < 8; ++i) EXPECT_NE(*file->write(body_of(100, 1)), 4 * kSector);
}

TEST_F(BodyFileTest, LeavesTheFileSystemItsReserve) {
  uint64_t free = 3 * kStep;
  DiskBudgetOptions disk{.step_bytes = kStep, .reserve_bytes = kStep};
  disk.space = [&](const std::string&) { return Result<DiskSpace>(DiskSpace{10 * kStep, free}); };
  auto file = open({.disk = disk});
  ASSERT_TRUE(file->write(body_of(kStep, 1)).ok());
  free = 2 * kStep;
  const auto refused = file->write(body_of(1, 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kLimit);
  EXPECT_NE(refused.error().message.find("limits.disk_reserve"), std::string::npos);
  EXPECT_EQ(file->file_bytes(), kStep);
  free = 3 * kStep;
  EXPECT_TRUE(file->write(body_of(1, 1)).ok());
}

TEST_F(BodyFileTest, ShortAndInterruptedWritesGoOn) {
  int calls = 0;
  auto file = open({.write = [&](int fd, const void* from, size_t size, off_t place) -> ssize_t {
    if (++calls % 3 == 0) {
      errno = EINTR;
      return -1;
    }
    return ::pwrite(fd, from, std::min<size_t>(size, 1000), place);
  }});
  const auto place = file->write(body_of(10'500, 9));
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(at({*place, 10'500}), body_of(10'500, 9));
}

// A store over it.
class StoredBodies : public StoreTest {
 protected:
  AcceptedBatch batch(uint64_t seq, uint64_t delta) {
    return batch_of(1, seq, {kHour, 60}, {requests({{"host", "a"}}, delta)});
  }

  uint64_t total(const Selection& selection) {
    uint64_t sum = 0;
    for (const auto& series : selection.series) {
      for (const auto& window : series.windows) sum += std::get<Counter>(window.value).delta;
    }
    return sum;
  }

  Result<std::vector<Acknowledgement>> try_drain(const std::vector<AcceptedBatch>& batches) {
    return store_->drain(meant_for(*store_, batches));
  }
};

TEST_F(StoredBodies, AreOnTheDiskBeforeARowPointsToThem) {
  int written = 0;
  int synced = 0;
  StoreOptions options;
  options.bodies.write = [&](int fd, const void* from, size_t size, off_t place) {
    EXPECT_EQ(synced, 0);
    ++written;
    return ::pwrite(fd, from, size, place);
  };
  options.bodies.sync = [&](int fd) {
    EXPECT_EQ(written, 3);
    EXPECT_EQ(number("SELECT count(*) FROM inbox"), 0);
    ++synced;
    return ::fdatasync(fd);
  };
  open(region_tier(), options);
  drain({batch(1, 1), batch(2, 2), batch(3, 4)});
  EXPECT_EQ(synced, 1);
  EXPECT_EQ(number("SELECT count(*) FROM inbox"), 3);
  drain({batch(1, 1)});  // nothing new
  EXPECT_EQ(synced, 1);
}

TEST_F(StoredBodies, AFullDiskTakesNothingAndTheSameBatchesPassLater) {
  bool full = true;
  StoreOptions options;
  options.bodies.write = [&](int fd, const void* from, size_t size, off_t place) -> ssize_t {
    if (!full || place == 0) return ::pwrite(fd, from, size, place);
    errno = ENOSPC;
    return -1;
  };
  open(region_tier(), options);
  const std::vector<AcceptedBatch> batches{batch(1, 1), batch(2, 2)};
  const auto refused = try_drain(batches);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kLimit);
  EXPECT_EQ(counter("weir_store_bodies_used_bytes"), 0U);
  EXPECT_EQ(store_->inbox_rows(), 0U);
  full = false;
  drain(batches);
  EXPECT_EQ(total(select(ask("requests_total"))), 3U);
  fold();
  EXPECT_EQ(total(select(ask("requests_total"))), 3U);
  EXPECT_EQ(counter("weir_store_bodies_used_bytes"), 0U);
}

TEST_F(StoredBodies, ADiskThatDoesNotSyncAcknowledgesNothing) {
  bool broken = true;
  StoreOptions options;
  options.bodies.sync = [&](int fd) {
    if (!broken) return ::fdatasync(fd);
    errno = EIO;
    return -1;
  };
  open(region_tier(), options);
  const auto failed = try_drain({batch(1, 1)});
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, Errc::kIo);
  broken = false;
  reopen();
  EXPECT_EQ(store_->inbox_rows(), 0U);
  drain({batch(1, 1)});
  EXPECT_EQ(total(select(ask("requests_total"))), 1U);
}

TEST_F(StoredBodies, AreFreeWhenAnotherEpochBegins) {
  open(region_tier());
  drain({batch(1, 1), batch(2, 2)});
  EXPECT_EQ(counter("weir_store_bodies_used_bytes"), 2 * kSector);
  ASSERT_TRUE(store_->begin_epoch(2).ok());
  EXPECT_EQ(counter("weir_store_bodies_used_bytes"), 0U);
}

TEST_F(StoredBodies, WithoutTheirFileAreAskedForAgain) {
  open(region_tier());
  drain({batch(1, 1)});
  reader_.reset();
  store_.reset();
  std::filesystem::remove(body_file(path()));
  reopen();
  EXPECT_EQ(select(ask()).notes.damaged_blocks, 1U);
  const FoldResult folded = fold();
  ASSERT_EQ(folded.acks.size(), 1U);
  EXPECT_EQ(folded.acks[0].level, FrameType::kNack);
  drain({batch(1, 1)});
  EXPECT_EQ(total(select(ask("requests_total"))), 1U);
}

// Asked for the time within a snapshot, it changes what is behind it.
class MeddlingClock final : public Clock {
 public:
  MeddlingClock(const Clock& clock, std::function<void()> meddle)
      : clock_(&clock), meddle_(std::move(meddle)) {}

  [[nodiscard]] UnixTime now() const override {
    meddle_();
    return clock_->now();
  }

  [[nodiscard]] MonoTime mono() const override { return clock_->mono(); }

 private:
  const Clock* clock_;
  std::function<void()> meddle_;
};

class StaleSnapshot : public StoredBodies {
 protected:
  // Folds what is there and has the next batch written over it.
  void replace() {
    fold();
    ASSERT_EQ(store_->inbox_rows(), 0U);
    auto store = std::move(store_);
    store.reset();
    store_ = *Store::open(path(), tier_, options_, unix_seconds(clock_.now()));
    ++seq_;
    drain({batch(seq_, uint64_t{1} << seq_)});
  }

  uint64_t seq_ = 0;
};

TEST_F(StaleSnapshot, OfABodyThatWasWrittenOverIsReadAnew) {
  open(region_tier());
  replace();
  int calls = 0;
  const MeddlingClock clock(clock_, [&] {
    if (++calls == 1) replace();
  });
  const auto reader = *Reader::open(path(), tier_, clock);
  const auto selection = reader->select(ask("requests_total"), {});
  ASSERT_TRUE(selection.ok());
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(total(*selection), 6U);
  EXPECT_EQ(selection->notes.damaged_blocks, 0U);
}

TEST_F(StaleSnapshot, GivesUpWhenThatNeverEnds) {
  open(region_tier());
  replace();
  const MeddlingClock clock(clock_, [&] { replace(); });
  const auto reader = *Reader::open(path(), tier_, clock);
  const auto selection = reader->select(ask("requests_total"), {});
  ASSERT_FALSE(selection.ok());
  EXPECT_EQ(selection.error().code, Errc::kUnavailable);
}

}  // namespace
}  // namespace weir::aggregator::store_test
