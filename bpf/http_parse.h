#pragma once
// HTTP/1.x heads and latency buckets. Compiled twice: for the kernel (bpf/requests.bpf.c) and for
// the host (unit tests, fuzzing), so none of it needs root to be tested.
//
// Pure; no loops the verifier must unroll. Texts are looked at as little-endian words: `a` holds
// bytes 0..7, `b` bytes 8..15, zero beyond the end.

#include "bpf/host_and_kernel.h"
#include "bpf/requests.h"

// What the first bytes of a segment are.
enum weir_head_kind { WEIR_HEAD_NONE = 0, WEIR_HEAD_WHOLE = 1, WEIR_HEAD_PARTIAL = 2 };

struct weir_head {
  __u32 kind;
  __u16 value;     // request: weir_method; response: status code
  __u16 path_off;  // request: where the target begins
};

// The first `n` (0..8) bytes of a word.
WEIR_INLINE __u64 weir_first_bytes(__u64 word, __u32 n) {
  return n >= 8 ? word : word & ((1ULL << (n * 8)) - 1);
}

// Bytes `left` (n of them, at most 15) followed by `right`, as 16 bytes.
WEIR_INLINE void weir_join(__u64 left_a, __u64 left_b, __u32 n, __u64 right_a, __u64 right_b,
                           __u64* a, __u64* b) {
  if (n == 0) {
    *a = right_a;
    *b = right_b;
  } else if (n < 8) {
    *a = left_a | right_a << (n * 8);
    *b = right_a >> (64 - n * 8) | right_b << (n * 8);
  } else {
    *a = left_a;
    *b = n == 8 ? right_a : left_b | right_a << ((n & 7) * 8);
  }
}

WEIR_INLINE __u32 weir_is_digit(__u64 byte) { return byte - '0' < 10; }

// A target begins with '/', or is absolute ("http..."), or '*'; CONNECT names a host.
WEIR_INLINE __u32 weir_starts_target(__u32 method, __u64 byte) {
  if (byte == '/') return 1;
  if (method == WEIR_METHOD_CONNECT) return byte > ' ' && byte < 0x7f;
  if (byte == '*') return method == WEIR_METHOD_OPTIONS;
  return byte == 'h' || byte == 'H';
}

// "GET " as a word: what the first `length` bytes of a request must be.
#define WEIR_WORD(c0, c1, c2, c3, c4, c5, c6, c7)                                   \
  (WEIR_TO(__u64, c0) | WEIR_TO(__u64, c1) << 8 | WEIR_TO(__u64, c2) << 16 |        \
   WEIR_TO(__u64, c3) << 24 | WEIR_TO(__u64, c4) << 32 | WEIR_TO(__u64, c5) << 40 | \
   WEIR_TO(__u64, c6) << 48 | WEIR_TO(__u64, c7) << 56)

WEIR_INLINE struct weir_head weir_match_method(__u64 a, __u64 b, __u32 n, __u64 word, __u32 length,
                                               __u32 method) {
  struct weir_head head = {WEIR_HEAD_NONE, 0, 0};
  if (n > length) {
    const __u64 next = length < 8 ? (a >> ((length & 7) * 8)) & 0xff : b & 0xff;
    if (weir_first_bytes(a, length) == word && weir_starts_target(method, next)) {
      head.kind = WEIR_HEAD_WHOLE;
      head.value = WEIR_TO(__u16, method);
      head.path_off = WEIR_TO(__u16, length);
    }
  } else if (n > 0 && weir_first_bytes(a, n) == weir_first_bytes(word, n)) {
    head.kind = WEIR_HEAD_PARTIAL;
  }
  return head;
}

// Does a request begin in these n bytes (n capped at 16)?
WEIR_INLINE struct weir_head weir_parse_request(__u64 a, __u64 b, __u32 n) {
  struct weir_head head;
#define WEIR_TRY_METHOD(name, length, ...)                                               \
  head = weir_match_method(a, b, n, WEIR_WORD(__VA_ARGS__), length, WEIR_METHOD_##name); \
  if (head.kind != WEIR_HEAD_NONE) return head
  WEIR_TRY_METHOD(GET, 4, 'G', 'E', 'T', ' ', 0, 0, 0, 0);
  WEIR_TRY_METHOD(POST, 5, 'P', 'O', 'S', 'T', ' ', 0, 0, 0);
  WEIR_TRY_METHOD(PUT, 4, 'P', 'U', 'T', ' ', 0, 0, 0, 0);
  WEIR_TRY_METHOD(HEAD, 5, 'H', 'E', 'A', 'D', ' ', 0, 0, 0);
  WEIR_TRY_METHOD(DELETE, 7, 'D', 'E', 'L', 'E', 'T', 'E', ' ', 0);
  WEIR_TRY_METHOD(PATCH, 6, 'P', 'A', 'T', 'C', 'H', ' ', 0, 0);
  WEIR_TRY_METHOD(OPTIONS, 8, 'O', 'P', 'T', 'I', 'O', 'N', 'S', ' ');
  WEIR_TRY_METHOD(TRACE, 6, 'T', 'R', 'A', 'C', 'E', ' ', 0, 0);
  WEIR_TRY_METHOD(CONNECT, 8, 'C', 'O', 'N', 'N', 'E', 'C', 'T', ' ');
#undef WEIR_TRY_METHOD
  return head;
}

// Does a response begin here: "HTTP/d.d ddd", the code in 100..599?
WEIR_INLINE struct weir_head weir_parse_response(__u64 a, __u64 b, __u32 n) {
  struct weir_head head = {WEIR_HEAD_NONE, 0, 0};
  const __u64 word = WEIR_WORD('H', 'T', 'T', 'P', '/', 0, 0, 0);
  const __u32 fixed = n < 5 ? n : 5;
  if (n == 0 || weir_first_bytes(a, fixed) != weir_first_bytes(word, fixed)) return head;
  if (n > 5 && !weir_is_digit((a >> 40) & 0xff)) return head;
  if (n > 6 && ((a >> 48) & 0xff) != '.') return head;
  if (n > 7 && !weir_is_digit(a >> 56)) return head;
  if (n > 8 && (b & 0xff) != ' ') return head;
  if (n < 12) {
    head.kind = WEIR_HEAD_PARTIAL;
    return head;
  }
  const __u64 d0 = (b >> 8) & 0xff;
  const __u64 d1 = (b >> 16) & 0xff;
  const __u64 d2 = (b >> 24) & 0xff;
  if (d0 - '1' >= 5 || !weir_is_digit(d1) || !weir_is_digit(d2)) return head;
  head.kind = WEIR_HEAD_WHOLE;
  head.value = WEIR_TO(__u16, (d0 - '0') * 100 + (d1 - '0') * 10 + (d2 - '0'));
  return head;
}

// Does another protocol begin here: a handshake of TLS ("\x16\x03", a version and a length, then
// what kind of hello), or HTTP/2's preface? Its value is a weir_proto; path_off says who speaks.
enum weir_speaker { WEIR_SPEAKER_SERVER = 0, WEIR_SPEAKER_CLIENT = 1 };

WEIR_INLINE struct weir_head weir_parse_protocol(__u64 a, __u64 b, __u32 n) {
  struct weir_head head = {WEIR_HEAD_NONE, 0, 0};
  const __u64 preface_a = WEIR_WORD('P', 'R', 'I', ' ', '*', ' ', 'H', 'T');
  const __u64 preface_b = WEIR_WORD('T', 'P', '/', '2', '.', '0', '\r', '\n');
  if (n == 0) return head;
  if (weir_first_bytes(a, n) == weir_first_bytes(preface_a, n) &&
      (n <= 8 || weir_first_bytes(b, n - 8) == weir_first_bytes(preface_b, n - 8))) {
    head.kind = n < 16 ? WEIR_HEAD_PARTIAL : WEIR_HEAD_WHOLE;
    head.value = WEIR_PROTO_HTTP2;
    head.path_off = WEIR_SPEAKER_CLIENT;
    return head;
  }
  const __u64 hello = (a >> 40) & 0xff;
  if (weir_first_bytes(a, n < 2 ? n : 2) != weir_first_bytes(0x0316, n < 2 ? n : 2)) return head;
  if (n > 2 && ((a >> 16) & 0xff) > 4) return head;
  if (n > 5 && hello != 1 && hello != 2) return head;
  head.kind = n < 6 ? WEIR_HEAD_PARTIAL : WEIR_HEAD_WHOLE;
  head.value = WEIR_PROTO_TLS;
  head.path_off = hello == 1 ? WEIR_SPEAKER_CLIENT : WEIR_SPEAKER_SERVER;
  return head;
}

// One byte of 0x80 for each byte of `word` that equals `c`, exactly (no borrow between bytes).
WEIR_INLINE __u64 weir_bytes_equal(__u64 word, __u8 c) {
  const __u64 low7 = 0x7f7f7f7f7f7f7f7fULL;
  const __u64 x = word ^ (c * 0x0101010101010101ULL);
  return ~(((x & low7) + low7) | x | low7);
}

// Eight 0x80 flags as eight bits.
WEIR_INLINE __u64 weir_flags_to_bits(__u64 flags) {
  return ((flags >> 7) * 0x0102040810204080ULL) >> 56;
}

// "Content-Length:", in any case: are these 15 bytes that?
WEIR_INLINE __u32 weir_is_content_length(__u64 a, __u64 b) {
  const __u64 fold = 0x2020202020202020ULL;
  return (a | (fold & ~(0xffULL << 56))) == WEIR_WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
         ((b & ~(0xffULL << 56)) | (fold >> 16)) == WEIR_WORD('l', 'e', 'n', 'g', 't', 'h', ':', 0);
}

// The decimal number in 16 bytes, after spaces; it ends at any other byte. One way through for the
// verifier. Nonsense gives a number too: whoever sends it hides its own bytes only.
WEIR_INLINE __u64 weir_parse_length(__u64 a, __u64 b) {
  __u64 value = 0, ended = 0, begun = 0;
  WEIR_NO_UNROLL
  for (__u32 i = 0; i < 16; ++i) {
    const __u64 c = ((i < 8 ? a >> (i * 8) : b >> ((i & 7) * 8)) & 0xff) - '0';
    const __u64 digit = 0 - ((c - 10) >> 63 & (c >> 63 ^ 1));
    ended |= begun & ~digit;
    begun |= digit;
    const __u64 grown = value * 10 + c;
    const __u64 take = digit & ~ended;
    value = (value & ~take) | (grown & take);
  }
  return value;
}

enum { WEIR_SCAN_BYTES = 64, WEIR_SCAN_STEP = 61 };  // 61: a mark may lie across two blocks

// Bit i is set when the four bytes c0..c3 begin at byte i of the block (bits 0..60).
WEIR_INLINE __u64 weir_find4(const __u64* block, __u8 c0, __u8 c1, __u8 c2, __u8 c3) {
  __u64 m0 = 0, m1 = 0, m2 = 0, m3 = 0;
  WEIR_NO_UNROLL
  for (__u32 i = 0; i < WEIR_SCAN_BYTES / 8; ++i) {
    m0 |= weir_flags_to_bits(weir_bytes_equal(block[i], c0)) << (8 * i);
    m1 |= weir_flags_to_bits(weir_bytes_equal(block[i], c1)) << (8 * i);
    m2 |= weir_flags_to_bits(weir_bytes_equal(block[i], c2)) << (8 * i);
    m3 |= weir_flags_to_bits(weir_bytes_equal(block[i], c3)) << (8 * i);
  }
  return m0 & m1 >> 1 & m2 >> 2 & m3 >> 3;
}

// Index of the lowest set bit; `bits` must not be 0.
WEIR_INLINE __u32 weir_lowest_bit(__u64 bits) {
  __u32 at = 0;
  if ((bits & 0xffffffffULL) == 0) at += 32, bits >>= 32;
  if ((bits & 0xffff) == 0) at += 16, bits >>= 16;
  if ((bits & 0xff) == 0) at += 8, bits >>= 8;
  if ((bits & 0xf) == 0) at += 4, bits >>= 4;
  if ((bits & 0x3) == 0) at += 2, bits >>= 2;
  return at + !(bits & 1);
}

WEIR_INLINE __u32 weir_highest_bit(__u64 value) {
  __u32 at = 0;
  if (value >> 32) at += 32, value >>= 32;
  if (value >> 16) at += 16, value >>= 16;
  if (value >> 8) at += 8, value >>= 8;
  if (value >> 4) at += 4, value >>= 4;
  if (value >> 2) at += 2, value >>= 2;
  return at + WEIR_TO(__u32, value >> 1);
}

// The sketch's own bucket of a latency (data-model.md), plus WEIR_BUCKET_BASE; 0 for 0 ns.
// The slots are weir::IndexSlot of common/sketch/index_table.h, filled in before load.
struct weir_index_slot {
  __u64 bound;
  __s32 sub;
  __u32 unused;
};

WEIR_INLINE __u32 weir_bucket(const volatile struct weir_index_slot* slots, __u64 ns) {
  if (ns == 0) return 0;
  const __u32 e = weir_highest_bit(ns);
  const __u64 f = ns << (63 - e) << 1;
  const volatile struct weir_index_slot* slot =
      &slots[(f >> (63 - WEIR_SCALE)) & (WEIR_INDEX_SLOTS - 1)];
  const __s32 index = WEIR_TO(__s32, e << WEIR_SCALE) + slot->sub + (f > slot->bound);
  return WEIR_TO(__u32, index + WEIR_BUCKET_BASE);
}

// 0 unknown, 1 aborted, 2..6 for 1xx..5xx.
WEIR_INLINE __u32 weir_status_class(__u32 status) {
  if (status < 100) return status == WEIR_STATUS_ABORTED;
  return status < 600 ? 1 + status / 100 : 0;
}
