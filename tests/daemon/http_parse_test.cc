#include "bpf/http_parse.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "common/sketch/index_table.h"

namespace weir::daemon {
namespace {

// Up to 16 bytes as the parser takes them.
struct Words {
  __u64 a = 0;
  __u64 b = 0;
  __u32 n = 0;

  explicit Words(std::string_view text) : n(static_cast<__u32>(std::min<size_t>(text.size(), 16))) {
    char bytes[16] = {};
    std::memcpy(bytes, text.data(), n);
    std::memcpy(&a, bytes, 8);
    std::memcpy(&b, bytes + 8, 8);
  }
};

weir_head request_head(std::string_view text) {
  const Words w(text);
  return weir_parse_request(w.a, w.b, w.n);
}

weir_head response_head(std::string_view text) {
  const Words w(text);
  return weir_parse_response(w.a, w.b, w.n);
}

struct MethodCase {
  std::string_view name;
  __u16 method;
};

constexpr MethodCase kMethods[] = {
    {"GET", WEIR_METHOD_GET},     {"HEAD", WEIR_METHOD_HEAD},     {"POST", WEIR_METHOD_POST},
    {"PUT", WEIR_METHOD_PUT},     {"DELETE", WEIR_METHOD_DELETE}, {"OPTIONS", WEIR_METHOD_OPTIONS},
    {"PATCH", WEIR_METHOD_PATCH}, {"TRACE", WEIR_METHOD_TRACE},   {"CONNECT", WEIR_METHOD_CONNECT},
};

TEST(HttpParse, EveryMethodBeginsARequest) {
  for (const auto& [name, method] : kMethods) {
    const auto head = request_head(std::string(name) + " /index HTTP/1.1\r\n");
    EXPECT_EQ(head.kind, WEIR_HEAD_WHOLE) << name;
    EXPECT_EQ(head.value, method) << name;
    EXPECT_EQ(head.path_off, name.size() + 1) << name;
  }
}

TEST(HttpParse, ARequestSplitAtAnyByteIsPartialThenWholeOnceJoined) {
  for (const auto& [name, method] : kMethods) {
    const std::string text = std::string(name) + " /i HTTP/1.1\r\n";
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const auto first = request_head(text.substr(0, cut));
      const bool whole = cut > name.size() + 1;
      EXPECT_EQ(first.kind, whole ? WEIR_HEAD_WHOLE : WEIR_HEAD_PARTIAL) << name << " " << cut;
      if (whole) continue;
      const Words left(text.substr(0, cut));
      const Words right(text.substr(cut));
      __u64 a = 0;
      __u64 b = 0;
      weir_join(left.a, left.b, left.n, right.a, right.b, &a, &b);
      const Words all(text);
      EXPECT_EQ(a, all.a) << name << " " << cut;
      EXPECT_EQ(weir_parse_request(a, b, 16).value, method) << name << " " << cut;
    }
  }
}

TEST(HttpParse, JoiningAtEveryLengthIsConcatenation) {
  const std::string text = "abcdefghijklmnopqrstuvwxyz012345";
  for (size_t n = 0; n <= 15; ++n) {
    const Words left(text.substr(0, n));
    const Words right(text.substr(n));
    const Words all(text);
    __u64 a = 0;
    __u64 b = 0;
    weir_join(left.a, left.b, left.n, right.a, right.b, &a, &b);
    EXPECT_EQ(a, all.a) << n;
    EXPECT_EQ(b, all.b) << n;
  }
}

TEST(HttpParse, TargetsAreOriginAbsoluteAsteriskOrAuthority) {
  EXPECT_EQ(request_head("GET http://h/ HTTP").kind, WEIR_HEAD_WHOLE);
  EXPECT_EQ(request_head("OPTIONS * HTTP/1").kind, WEIR_HEAD_WHOLE);
  EXPECT_EQ(request_head("CONNECT h:443 HTTP").kind, WEIR_HEAD_WHOLE);
  EXPECT_EQ(request_head("GET * HTTP/1.1").kind, WEIR_HEAD_NONE);
  EXPECT_EQ(request_head("GET the latest news").kind, WEIR_HEAD_NONE);
}

TEST(HttpParse, OtherBytesAreNoRequest) {
  for (const char* text : {"", "get / HTTP/1.1", "GETS / HTTP", "HTTP/1.1 200 OK", "\x16\x03\x01",
                           "{\"a\":1}", " GET / ", "POSTER", "GET\t/"}) {
    EXPECT_EQ(request_head(text).kind, WEIR_HEAD_NONE) << text;
  }
}

TEST(HttpParse, StatusLinesGiveTheirCode) {
  EXPECT_EQ(response_head("HTTP/1.1 200 OK").value, 200);
  EXPECT_EQ(response_head("HTTP/1.0 503 Service").value, 503);
  EXPECT_EQ(response_head("HTTP/1.1 100").value, 100);
  EXPECT_EQ(response_head("HTTP/1.1 599 x").kind, WEIR_HEAD_WHOLE);
}

TEST(HttpParse, AStatusLineSplitAnywhereIsPartialUntilItsCode) {
  const std::string text = "HTTP/1.1 204 No Content";
  for (size_t cut = 1; cut < text.size(); ++cut) {
    EXPECT_EQ(response_head(text.substr(0, cut)).kind,
              cut < 12 ? WEIR_HEAD_PARTIAL : WEIR_HEAD_WHOLE)
        << cut;
  }
}

TEST(HttpParse, BrokenStatusLinesAreNone) {
  for (const char* text : {"HTTP/1.1 600 X", "HTTP/1.1 099 X", "HTTP/1.1 2x0 X", "HTTP/x.1 200",
                           "HTTP/1,1 200", "HTTP/1.1_200", "http/1.1 200", "HTTQ"}) {
    EXPECT_EQ(response_head(text).kind, WEIR_HEAD_NONE) << text;
  }
}

weir_head protocol(std::string_view text) {
  const Words w(text);
  return weir_parse_protocol(w.a, w.b, w.n);
}

TEST(HttpParse, Http2sPrefaceIsPartialUntilItsLineIsWhole) {
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  for (size_t n = 1; n <= preface.size(); ++n) {
    const auto head = protocol(preface.substr(0, n));
    EXPECT_EQ(head.kind, n < 16 ? WEIR_HEAD_PARTIAL : WEIR_HEAD_WHOLE) << n;
    EXPECT_EQ(head.value, WEIR_PROTO_HTTP2);
    EXPECT_EQ(head.path_off, WEIR_SPEAKER_CLIENT);
    EXPECT_NE(request_head(preface.substr(0, n)).kind, WEIR_HEAD_WHOLE);
  }
  EXPECT_EQ(protocol("PRI * HTTP/1.1\r\n").kind, WEIR_HEAD_NONE);
  EXPECT_EQ(protocol("GET / HTTP/1.1").kind, WEIR_HEAD_NONE);
  EXPECT_EQ(protocol("").kind, WEIR_HEAD_NONE);
}

TEST(HttpParse, AHandshakeOfTlsTellsWhoSpeaks) {
  using namespace std::string_view_literals;
  EXPECT_EQ(protocol("\x16\x03\x01\x02\x00\x01\x00"sv).path_off, WEIR_SPEAKER_CLIENT);
  EXPECT_EQ(protocol("\x16\x03\x03\x00\x7a\x02\x00"sv).path_off, WEIR_SPEAKER_SERVER);
  const auto hello = "\x16\x03\x01\x02\x00\x01"sv;
  for (size_t n = 1; n <= hello.size(); ++n) {
    const auto head = protocol(hello.substr(0, n));
    EXPECT_EQ(head.kind, n < 6 ? WEIR_HEAD_PARTIAL : WEIR_HEAD_WHOLE) << n;
    EXPECT_EQ(head.value, WEIR_PROTO_TLS);
  }
  EXPECT_EQ(protocol("\x16\x03\x01\x02\x00\x0b"sv).kind, WEIR_HEAD_NONE);  // a certificate
  EXPECT_EQ(protocol("\x16\x03\x05\x02\x00\x01"sv).kind, WEIR_HEAD_NONE);
  EXPECT_EQ(protocol("\x17\x03\x03\x02\x00\x01"sv).kind, WEIR_HEAD_NONE);
}

TEST(HttpParse, ContentLengthIsFoundInAnyCaseAndNothingElseIs) {
  const auto is = [](std::string_view text) {
    const Words w(text);
    return weir_is_content_length(w.a, w.b);
  };
  for (const char* text : {"Content-Length: 1", "content-length:1", "CONTENT-LENGTH: 1"}) {
    EXPECT_TRUE(is(text)) << text;
  }
  const std::string name = "content-length:";
  for (size_t at = 0; at < name.size(); ++at) {
    for (int flip = 1; flip < 256; ++flip) {
      std::string other = name + " 7";
      other[at] = static_cast<char>(other[at] ^ flip);
      EXPECT_EQ(is(other), flip == 0x20 && std::isalpha(name[at]) != 0) << at << ' ' << flip;
    }
  }
}

TEST(HttpParse, ALengthEndsAtWhateverIsNoDigit) {
  const auto length = [](std::string_view text) {
    const Words w(text);
    return weir_parse_length(w.a, w.b);
  };
  EXPECT_EQ(length(" 17\r\nHost: 4"), 17U);
  EXPECT_EQ(length("0\r\n\r\n12"), 0U);
  EXPECT_EQ(length("1234567890123456"), 1'234'567'890'123'456U);
  EXPECT_EQ(length("  5, 6"), 5U);
  EXPECT_EQ(length("\r\n\r\n"), 0U);
  EXPECT_EQ(length(""), 0U);
}

TEST(HttpParse, MarksAreFoundAtEveryPlaceOfABlock) {
  for (size_t at = 0; at <= 60; ++at) {
    std::string text(64, 'x');
    text.replace(at, 4, "\r\n\r\n");
    __u64 block[8];
    std::memcpy(block, text.data(), sizeof block);
    const auto bits = weir_find4(block, '\r', '\n', '\r', '\n');
    EXPECT_EQ(bits, __u64{1} << at);
    EXPECT_EQ(weir_lowest_bit(bits), at);
  }
}

TEST(HttpParse, MarksAgreeWithASearchOnRandomText) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text(64, ' ');
    for (auto& c : text) c = "\r\nH\x8d"[random() % 4];
    __u64 block[8];
    std::memcpy(block, text.data(), sizeof block);
    __u64 expected = 0;
    for (size_t i = 0; i + 4 <= 64; ++i) {
      if (text.compare(i, 4, "\r\n\r\n") == 0) expected |= __u64{1} << i;
    }
    EXPECT_EQ(weir_find4(block, '\r', '\n', '\r', '\n'), expected);
  }
}

TEST(Bucket, TheKernelsIndexIsTheSketchsAtEveryBoundary) {
  const auto& table = index_table(WEIR_SCALE, -9);
  std::vector<weir_index_slot> slots(WEIR_INDEX_SLOTS);
  ASSERT_EQ(table.slots().size_bytes(), slots.size() * sizeof(weir_index_slot));
  std::memcpy(slots.data(), table.slots().data(), table.slots().size_bytes());
  const auto check = [&](uint64_t v) {
    const auto bucket = weir_bucket(slots.data(), v);
    EXPECT_EQ(static_cast<int32_t>(bucket) - WEIR_BUCKET_BASE, table.index(v)) << v;
    EXPECT_LT(bucket / WEIR_OCTAVE_BUCKETS, static_cast<uint32_t>(WEIR_OCTAVES)) << v;
  };
  for (int32_t i = table.lowest(); i <= table.highest(); ++i) {
    const double edge = table.lower_edge(i) * 1e9;
    if (edge >= 1.8e19) break;
    const auto v = static_cast<uint64_t>(edge);
    for (uint64_t near = v < 3 ? 1 : v - 2; near <= v + 2; ++near) check(near);
  }
  std::mt19937_64 random(3);
  for (int i = 0; i < 20'000; ++i) check((random() >> (random() % 63)) | 1);
  check(1);
  check(UINT64_MAX);
  EXPECT_EQ(weir_bucket(slots.data(), 0), 0U);
}

TEST(Bucket, StatusClassesCoverEveryCode) {
  EXPECT_EQ(weir_status_class(WEIR_STATUS_UNKNOWN), 0U);
  EXPECT_EQ(weir_status_class(WEIR_STATUS_ABORTED), 1U);
  EXPECT_EQ(weir_status_class(101), 2U);
  EXPECT_EQ(weir_status_class(599), 6U);
  EXPECT_EQ(weir_status_class(600), 0U);
}

}  // namespace
}  // namespace weir::daemon
