#include "common/sketch/packed_counts.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(PackedCounts, EveryWidthComesBackFromExactlyTwiceItsBytes) {
  std::mt19937_64 random(4);
  for (unsigned width = 0; width <= kMaxPackedWidth; ++width) {
    CountGroup counts{};
    for (auto& count : counts) count = width == 0 ? 0 : random() >> (64 - width);
    if (width > 0) counts[random() % kGroupCounts] |= uint64_t{1} << (width - 1);
    ASSERT_EQ(packed_width(counts), width);
    Bytes out;
    pack_counts(counts, static_cast<uint8_t>(width), out);
    ASSERT_EQ(out.size(), 2 * width);
    const Bytes exact(out.begin(), out.end());  // sanitizers see a read past this end
    CountGroup back{};
    unpack_counts(exact, static_cast<uint8_t>(width), back);
    EXPECT_EQ(back, counts) << width;
  }
}

// Bytes that end where a page ends, and the page after it can not be read.
class AtPageEnd {
 public:
  explicit AtPageEnd(const Bytes& bytes) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    size_ = (bytes.size() + page - 1) / page * page + page;
    void* memory =
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    memory_ = static_cast<std::byte*>(memory);
    EXPECT_EQ(::mprotect(memory_ + size_ - page, page, PROT_NONE), 0);
    std::byte* at = memory_ + size_ - page - bytes.size();
    std::copy(bytes.begin(), bytes.end(), at);
    view_ = {at, bytes.size()};
  }

  AtPageEnd(const AtPageEnd&) = delete;
  AtPageEnd& operator=(const AtPageEnd&) = delete;

  ~AtPageEnd() { ::munmap(memory_, size_); }

  [[nodiscard]] ByteView view() const { return view_; }

 private:
  std::byte* memory_ = nullptr;
  size_t size_ = 0;
  ByteView view_;
};

TEST(PackedCounts, LastGroupAtTheEndOfAPageIsReadAlone) {
  for (unsigned width = 1; width <= kMaxPackedWidth; ++width) {
    CountGroup counts{};
    counts.fill(width == 64 ? UINT64_MAX : (uint64_t{1} << width) - 1);
    Bytes packed;
    pack_counts(counts, static_cast<uint8_t>(width), packed);
    const AtPageEnd at_end(packed);
    CountGroup back{};
    unpack_counts(at_end.view(), static_cast<uint8_t>(width), back);
    EXPECT_EQ(back, counts) << width;
    if (width > 16) continue;
    const Bytes widths = {static_cast<std::byte>(width)};
    for (const auto unpack : {&unpack_counts16, &unpack_counts16_portable}) {
      std::array<uint16_t, kGroupCounts> narrow{};
      uint64_t sum = 0;
      EXPECT_TRUE(unpack(widths, at_end.view(), narrow.data(), sum));
      EXPECT_TRUE(std::equal(narrow.begin(), narrow.end(), counts.begin())) << width;
      EXPECT_EQ(sum, 16 * counts[0]);
    }
  }
}

struct GroupRun {
  Bytes widths;
  Bytes packed;
  std::vector<uint16_t> counts;
  uint64_t sum = 0;
};

GroupRun random_run(std::mt19937_64& random, size_t groups) {
  GroupRun out;
  for (; groups > 0; --groups) {
    const auto bits = static_cast<unsigned>(random() % 17);
    CountGroup counts{};
    for (auto& count : counts) {
      count = bits == 0 ? 0 : random() >> (64 - bits);
      out.counts.push_back(static_cast<uint16_t>(count));
      out.sum += count;
    }
    const uint8_t width = packed_width(counts);
    out.widths.push_back(static_cast<std::byte>(width));
    pack_counts(counts, width, out.packed);
  }
  return out;
}

TEST(PackedCounts, RunPackedAtOnceIsTheGroupsPackedOneByOne) {
  std::mt19937_64 random(10);
  for (int round = 0; round < 500; ++round) {
    const GroupRun run = random_run(random, random() % 40);
    Bytes widths(1, std::byte{9});  // what is there stays
    Bytes packed(2, std::byte{9});
    pack_counts16(run.counts, widths, packed);
    EXPECT_TRUE(std::ranges::equal(ByteView(widths).subspan(1), run.widths));
    EXPECT_TRUE(std::ranges::equal(ByteView(packed).subspan(2), run.packed));
    EXPECT_EQ(widths[0], std::byte{9});
    EXPECT_EQ(packed[1], std::byte{9});
  }
}

TEST(PackedCounts, RunOfNarrowGroupsHoldsTheSameCountsWhicheverWayItIsRead) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 500; ++round) {
    const GroupRun run = random_run(random, random() % 40);
    ASSERT_EQ(run_size(run.widths).packed, run.packed.size());
    Bytes longer = run.packed;  // other rows' bytes behind them change nothing
    for (size_t i = random() % 80; i > 0; --i) longer.push_back(static_cast<std::byte>(random()));
    const AtPageEnd exact(run.packed);
    for (const ByteView packed : {exact.view(), ByteView(longer)}) {
      for (const auto unpack : {&unpack_counts16, &unpack_counts16_portable}) {
        std::vector<uint16_t> narrow(run.counts.size());
        uint64_t sum = 7;
        ASSERT_TRUE(unpack(run.widths, packed, narrow.data(), sum));
        ASSERT_EQ(narrow, run.counts);
        ASSERT_EQ(sum, 7 + run.sum);
      }
    }
  }
}

TEST(PackedCounts, WidthThatIsNotTheSmallestIsNoticedInAnyGroup) {
  std::mt19937_64 random(6);
  for (int round = 0; round < 300; ++round) {
    GroupRun run = random_run(random, random() % 6);
    const auto width = static_cast<uint8_t>(1 + random() % 16);
    CountGroup counts{};
    counts[random() % kGroupCounts] = (uint64_t{1} << (width - 1)) - 1;  // needs one bit less
    run.widths.push_back(static_cast<std::byte>(width));
    pack_counts(counts, width, run.packed);
    const GroupRun more = random_run(random, random() % 6);
    run.widths.insert(run.widths.end(), more.widths.begin(), more.widths.end());
    run.packed.insert(run.packed.end(), more.packed.begin(), more.packed.end());
    for (const auto unpack : {&unpack_counts16, &unpack_counts16_portable}) {
      std::vector<uint16_t> narrow(run.widths.size() * kGroupCounts);
      uint64_t sum = 0;
      EXPECT_FALSE(unpack(run.widths, run.packed, narrow.data(), sum));
    }
  }
}

TEST(PackedCounts, RunTakesWhatItsWidthsSay) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2'000; ++round) {
    Bytes widths(random() % 40);
    const auto most = std::array<unsigned, 5>{16, 32, 64, 65, 255}[random() % 5];
    size_t bytes = 0;
    unsigned widest = 0;
    for (auto& each : widths) {
      const auto width = static_cast<unsigned>(random() % (most + 1));
      each = static_cast<std::byte>(width);
      bytes += size_t{2} * width;
      widest = std::max(widest, width);
    }
    const auto size = run_size(widths);
    EXPECT_EQ(size.packed, bytes);
    const int cell = widest <= 16 ? 2 : (widest <= 32 ? 4 : 8);
    EXPECT_EQ(size.cell_bytes, widest > 64 ? 0 : cell) << widest;
  }
  const Bytes widest(kMaxRun, std::byte{0xff});
  EXPECT_EQ(run_size(widest).packed, 2 * kMaxRun * 0xff);
  EXPECT_EQ(run_size(widest).cell_bytes, 0);
}

}  // namespace
}  // namespace weir
