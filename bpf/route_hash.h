#pragma once
// The route of a path: its hash with every segment that looks like an id collapsed, so /users/17
// and /users/42 are one route. Compiled twice (bpf/host_and_kernel.h).
//
// Pure. Promise: two paths whose segments are pairwise equal, or both ids, or both cut by the end
// of the 64 bytes, have one hash; user space makes the label from any of them (daemon/routes.h).
// One branch a segment and none a byte but for the end of the path: the verifier walks 64 bytes,
// and no product of ways through them.

#include "bpf/host_and_kernel.h"
#include "bpf/requests.h"

// Is a segment an id? One with a digit is, but for two kinds of words:
//   v1, oauth2, utf-8           one or two digits, at its very end and not its beginning
//   jquery-3.6.0.min.js, a1.js  a dot and at most three digits, none at its beginning
#define WEIR_ID_HASH 0x7b69647d9e3779b9ULL  // in place of an id's own hash

struct weir_id_state {
  __u64 cost;       // one for each digit, eight for a digit that begins the segment
  __u64 inside;     // eight once something follows a digit
  __u64 dot;        // one once there was a dot
  __u64 was_digit;  // the byte before
  __u64 begins;     // three before the first byte
};

#define WEIR_ID_BEGIN \
  { 0, 0, 0, 0, 3 }

WEIR_INLINE void weir_id_step(struct weir_id_state* s, __u64 c) {
  const __u64 digit = (((c - '0') & 0xff) - 10) >> 63;
  s->cost += digit << s->begins;
  s->inside |= (s->was_digit & ~digit) << 3;
  s->dot |= ((c ^ '.') - 1) >> 63;
  s->was_digit = digit;
  s->begins = 0;
}

// All ones when the bytes read so far are an id, else 0.
WEIR_INLINE __u64 weir_is_id(const struct weir_id_state* s) {
  const __u64 cost = s->cost + (s->inside & (s->dot - 1));
  return 0 - ((2 + s->dot - cost) >> 63);
}

// Adds a segment to the hash of those before it.
WEIR_INLINE __u64 weir_add_segment(__u64 whole, __u64 segment, const struct weir_id_state* s) {
  const __u64 id = weir_is_id(s);
  return (whole << 23 | whole >> 41) ^ ((segment & ~id) | (WEIR_ID_HASH & id));
}

// The path ends at a space, '?', '#', a control byte, or after 64 bytes.
struct weir_route {
  __u32 hash;
  __u8 length;  // of the path without query
  __u8 ended;   // 0: the path goes on beyond the bytes given
  __u16 pad;
};

WEIR_INLINE struct weir_route weir_hash_path(const __u8* bytes, __u32 n) {
  const __u64 prime = 0x9e3779b97f4a7c15ULL;
  const struct weir_id_state fresh = WEIR_ID_BEGIN;
  struct weir_route route = {0, 0, 0, 0};
  struct weir_id_state state = fresh;
  __u64 whole = 0;    // of the segments before this one
  __u64 segment = 1;  // of this one's bytes
  __u32 i = 0;
  for (; i < WEIR_PATH_BYTES; ++i) {
    if (i >= n) break;
    const __u64 c = bytes[i];
    if (c <= ' ' || c == '?' || c == '#') {
      route.ended = 1;
      break;
    }
    if (c == '/') {
      whole = weir_add_segment(whole, segment, &state);
      segment = 1;
      state = fresh;
      continue;
    }
    segment = (segment ^ c) * prime;
    weir_id_step(&state, c);
  }
  if (i < WEIR_PATH_BYTES) {
    whole = weir_add_segment(whole, segment, &state);
  } else {  // cut in its last segment, whatever that is: never the hash of one that ends
    route.ended = 1;
    whole = ~(whole << 23 | whole >> 41);
  }
  whole = (whole ^ whole >> 32) * prime;
  route.hash = WEIR_TO(__u32, whole >> 32);
  if (route.hash < WEIR_ROUTE_FIRST) route.hash += WEIR_ROUTE_FIRST;
  route.length = WEIR_TO(__u8, i);
  return route;
}
