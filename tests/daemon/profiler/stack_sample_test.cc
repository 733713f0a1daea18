#include "daemon/profiler/stack_sample.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

constexpr int64_t kMonoToUnix = 1'700'000'000'000'000'000;

Bytes record(const std::vector<uint64_t>& kernel, const std::vector<uint64_t>& user,
             std::string_view comm = "nginx") {
  weir_profile_record head = {};
  head.time_ns = 5'900'000'000;
  head.period_ns = 52'631'580;
  head.cgroup_id = 77;
  head.start_ns = 123;
  head.exec_id = 4;
  head.pid = 42;
  head.tid = 43;
  head.kernel_n = static_cast<__u16>(kernel.size());
  head.user_n = static_cast<__u16>(user.size());
  std::memcpy(head.comm, comm.data(), std::min(comm.size(), sizeof head.comm));
  ByteWriter out;
  out.append(std::as_bytes(std::span(&head, 1)).first(WEIR_PROFILE_HEAD_BYTES));
  out.append(std::as_bytes(std::span(kernel)));
  out.append(std::as_bytes(std::span(user)));
  return std::move(out).take();
}

StackSample sample(const std::vector<uint64_t>& kernel, const std::vector<uint64_t>& user) {
  return *decode_record(record(kernel, user), kMonoToUnix);
}

TEST(DecodeRecord, GivesTheStackAndWhoseItIs) {
  const auto got = sample({0xffffffff81000010}, {0x401010, 0x401020});
  EXPECT_EQ(got.image, (ProcessImage{42, 123, 4}));
  EXPECT_EQ(got.cgroup_id, 77U);
  EXPECT_EQ(got.unix_s, 1'700'000'005);
  EXPECT_EQ(got.comm, "nginx");
  EXPECT_EQ(got.kernel, std::vector<uint64_t>{0xffffffff81000010});
  EXPECT_EQ(got.user, (std::vector<uint64_t>{0x401010, 0x401020}));
  EXPECT_EQ(got.ns, 52'631'580U);
  EXPECT_EQ(got.samples, 1U);
}

TEST(DecodeRecord, ANameOfSixteenBytesNeedsNoTerminator) {
  EXPECT_EQ(decode_record(record({}, {1}, "0123456789abcdef"), 0)->comm, "0123456789abcdef");
}

TEST(DecodeRecord, EveryOtherLengthIsRefused) {
  Bytes whole = record({1}, {2, 3});
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(decode_record(ByteView(whole).first(size), 0)) << size;
  }
  whole.push_back(std::byte{0});
  EXPECT_FALSE(decode_record(whole, 0));
}

TEST(DecodeRecord, MoreFramesThanThereCanBeAreRefused) {
  EXPECT_TRUE(decode_record(record(std::vector<uint64_t>(127), std::vector<uint64_t>(127)), 0));
  EXPECT_FALSE(decode_record(record(std::vector<uint64_t>(128), {}), 0));
}

TEST(StackBatch, EqualStacksAddUp) {
  StackBatch batch;
  EXPECT_TRUE(batch.add(sample({}, {1, 2})));
  EXPECT_TRUE(batch.add(sample({}, {1, 3})));
  EXPECT_TRUE(batch.add(sample({}, {1, 2})));
  EXPECT_EQ(batch.samples(), 3U);
  const auto stacks = batch.take();
  ASSERT_EQ(stacks.size(), 2U);
  EXPECT_EQ(stacks[0].samples, 2U);
  EXPECT_EQ(stacks[0].ns, 2U * 52'631'580);
  EXPECT_EQ(stacks[1].samples, 1U);
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(batch.samples(), 0U);
}

TEST(StackBatch, WhatDiffersStaysApart) {
  StackBatch batch;
  EXPECT_TRUE(batch.add(sample({1}, {2})));
  EXPECT_TRUE(batch.add(sample({}, {1, 2})));
  auto later = sample({1}, {2});
  later.unix_s += 1;
  EXPECT_TRUE(batch.add(later));
  auto other_image = sample({1}, {2});
  other_image.image.exec_id += 1;
  EXPECT_TRUE(batch.add(other_image));
  auto renamed = sample({1}, {2});
  renamed.comm = "other";
  EXPECT_TRUE(batch.add(renamed));
  EXPECT_EQ(batch.take().size(), 5U);
}

TEST(StackBatch, AFullBatchSaysSoAndStillCountsWhatItKnows) {
  StackBatch batch;
  for (uint64_t pc = 0; pc < StackBatch::kMaxStacks; ++pc) ASSERT_TRUE(batch.add(sample({}, {pc})));
  EXPECT_FALSE(batch.add(sample({}, {StackBatch::kMaxStacks})));
  EXPECT_TRUE(batch.add(sample({}, {0})));
  EXPECT_EQ(batch.take()[0].samples, 2U);
  EXPECT_TRUE(batch.add(sample({}, {StackBatch::kMaxStacks})));
}

}  // namespace
}  // namespace weir::daemon
