#include "common/control.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

std::vector<ControlMessage> one_of_each() {
  Ping ping{1, 2, {"edge-1", "edge", {}, {{"weir_dropped_total", 7}, {"x", UINT64_MAX}}, 60, 9}};
  ping.report.collectors = {{"requests", 1, "", ""},
                            {"profile", 3, "no perf_event", "grant CAP_PERFMON"}};
  ping.clock_offset_ns = -77;
  const SourceId one{std::byte{1}};
  const SourceId two{std::byte{2}};
  return {Hello{0, 3, "edge-1", "edge", 77, -1, 5, 12, 3456, 5, {77, UINT64_MAX}},
          Welcome{1,
                  4 << 20,
                  {{7, 1, 9}, {7, 11, 11}, {8, 1, UINT64_MAX}},
                  {{7, 1, 2}},
                  4,
                  one,
                  12,
                  UINT64_MAX},
          Ack{{{7, 1, 9}, {7, 12, 13}}, 1 << 20},
          Nack{7, 9, "window_old", true},
          ping,
          Pong{-5, 6, {{7, 1, 3}, {8, 5, 5}}},
          Tombstone{{60, 60}, 9, UINT64_MAX, "outbox_age", {{"host", "h"}, {"zone", "z"}}},
          Credit{5},
          AskIncluded{one, 3, two, 7, 1, UINT64_MAX},
          Included{one, 3, two, 7, 5, 9, true, {{7, 5, 6}, {7, 9, 9}}},
          Fenced{3},
          Revoked{"not in the allow list"},
          Goaway{3000, "stopping"}};
}

TEST(Control, EveryMessageSurvives) {
  for (const ControlMessage& message : one_of_each()) {
    const auto decoded = decode_control(encode_control(message));
    ASSERT_TRUE(decoded.ok()) << message.index();
    EXPECT_EQ(*decoded, message) << message.index();
  }
}

TEST(Control, EncodingCutsWhatIsBeyondTheLimits) {
  Ping ping;
  ping.report.name = std::string(10'000, 'n');
  ping.report.collectors.resize(1000);
  ping.report.counters.resize(1000);
  const auto decoded = decode_control(encode_control(ping));
  ASSERT_TRUE(decoded.ok());
  const auto& report = std::get<Ping>(*decoded).report;
  EXPECT_EQ(report.name.size(), kMaxControlText);
  EXPECT_EQ(report.collectors.size(), kMaxCollectors);
  EXPECT_EQ(report.counters.size(), kMaxReportCounters);

  Welcome welcome;
  for (uint64_t i = 1; i <= 5000; ++i) welcome.here.push_back({1, 2 * i, 2 * i});
  const Bytes bytes = encode_control(welcome);
  EXPECT_LE(bytes.size(), kMaxControlBytes);
  const auto shorter = decode_control(bytes);
  ASSERT_TRUE(shorter.ok());
  EXPECT_EQ(std::get<Welcome>(*shorter).here.size(), kMaxRanges);
}

TEST(Control, RangesThatAreNoRangesAreRefused) {
  EXPECT_FALSE(decode_control(encode_control(Ack{{{7, 5, 4}}})).ok());
  EXPECT_FALSE(decode_control(encode_control(Ack{{{7, 0, 4}}})).ok());
  EXPECT_FALSE(decode_control(encode_control(Welcome{0, 0, {{7, 9, 1}}, {}})).ok());
  EXPECT_FALSE(decode_control(encode_control(AskIncluded{{}, 1, {}, 1, 2, 1})).ok());
  EXPECT_FALSE(
      decode_control(encode_control(Included{{}, 1, {}, 1, 2, 5, true, {{1, 2, 6}}})).ok());
  EXPECT_FALSE(decode_control(encode_control(Included{{}, 1, {}, 1, 2, 0, true, {}})).ok());
}

TEST(Control, AnAnswerThatCoversNothingIsNoError) {
  EXPECT_TRUE(decode_control(encode_control(Included{{}, 1, {}, 1, 2, 1, true, {}})).ok());
}

TEST(Control, LabelsOfATombstoneAreLabels) {
  const auto with = [](Labels labels) {
    return decode_control(encode_control(Tombstone{{60, 60}, 1, 1, "r", std::move(labels)})).ok();
  };
  EXPECT_TRUE(with({{"a", ""}, {"b", "2"}}));
  EXPECT_FALSE(with({{"b", "2"}, {"a", "1"}}));
  EXPECT_FALSE(with({{"a", "1"}, {"a", "1"}}));
  EXPECT_FALSE(with({{"", "1"}}));
  EXPECT_FALSE(with({{"a", "\xff"}}));
  EXPECT_FALSE(decode_control(encode_control(Tombstone{{0, 0}, 1, 1, "r", {}})).ok());
}

TEST(Control, EveryTruncationIsAnErrorAndNoFlippedBitIsACrash) {
  for (const ControlMessage& message : one_of_each()) {
    const Bytes good = encode_control(message);
    for (size_t size = 0; size < good.size(); ++size) {
      Bytes cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
      // What is cut off may be padding or unread: then the message must be the same.
      const auto decoded = decode_control(cut);
      EXPECT_TRUE(!decoded.ok() || *decoded == message) << message.index() << " " << size;
    }
    for (size_t bit = 0; bit < good.size() * 8; ++bit) {
      Bytes bad = good;
      bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      [[maybe_unused]] const auto decoded = decode_control(bad);
    }
  }
}

TEST(Control, OtherBuffersAreRefused) {
  EXPECT_FALSE(decode_control({}).ok());
  EXPECT_FALSE(decode_control(as_bytes("WCT1WCT1WCT1WCT1WCT1")).ok());
  EXPECT_FALSE(decode_control(Bytes(kMaxControlBytes + 1)).ok());
}

}  // namespace
}  // namespace weir
