#pragma once
// HTTP/1.x over the segments of a connection: finding heads wherever they begin, pairing responses
// with requests, routes. Included by requests.bpf.c alone; the rules are docs/requests.md.

#include "bpf/requests_count.h"

// ---- requests -------------------------------------------------------------------------------

// Head matching is branchy: as global functions it is verified once, not once per caller.
__noinline __u64 weir_request_at(__u64 a, __u64 b, __u32 n) {
  const struct weir_head head = weir_parse_request(a, b, n);
  return head.kind | (__u64)head.value << 16 | (__u64)head.path_off << 32;
}

__noinline __u64 weir_response_at(__u64 a, __u64 b, __u32 n) {
  const struct weir_head head = weir_parse_response(a, b, n);
  return head.kind | (__u64)head.value << 16;
}

__noinline __u64 weir_route_of(struct weir_route_path* path, __u32 n) {
  if (!path) return 0;
  const struct weir_route route = weir_hash_path(path->bytes, n);
  return route.hash | (__u64)route.ended << 32;
}

// Remembers the path behind a route the first time it is seen.
static __always_inline void remember_route(struct weir_conn* c, __u32 route, void* path) {
  const struct weir_route_key key = {.cgroup = c->cgroup, .route = route};
  if (!bpf_map_lookup_elem(&routes, &key)) bpf_map_update_elem(&routes, &key, path, BPF_ANY);
}

static __always_inline __u32 load_path(struct __sk_buff* skb, __u32 off, __u32 end, void* to,
                                       __u32 room) {
  __u32 n = end - off;
  if (off >= end) return 0;
  if (n > room) n = room;
  barrier_var(n);
  if (n < 1 || n > WEIR_PATH_BYTES) return 0;
  return bpf_skb_load_bytes(skb, off, to, n) == 0 ? n : 0;
}

// The route of the target at `off`. One cut by the segment's end is kept and finished later.
__noinline __u32 weir_route_at(struct __sk_buff* skb, struct weir_conn* c, struct weir_segment* s,
                               __u32 off) {
  if (!c || !s) return 0;
  struct weir_route_path path = {};
  const __u32 n = load_path(skb, off, s->end, &path, WEIR_PATH_BYTES);
  const __u64 route = weir_route_of(&path, n);
  if (route >> 32) {
    c->path_len = 0;
    remember_route(c, route, &path);
    return route;
  }
  __builtin_memcpy(c->path, &path, sizeof path);
  c->path_len = n + 1;  // so an empty beginning counts as one
  return WEIR_ROUTE_UNSEEN;
}

// More of a target that a segment's end had cut.
__noinline int weir_extend_path(struct __sk_buff* skb, struct weir_conn* c,
                                struct weir_segment* s) {
  if (!c || !s) return 0;
  __u32 have = c->path_len - 1;
  barrier_var(have);
  if (have >= WEIR_PATH_BYTES) {
    c->path_len = 0;
    return 0;
  }
  __u32 n = load_path(skb, s->off, s->end, c->path + have, WEIR_PATH_BYTES - have);
  n += have;
  const __u64 route = weir_route_of((struct weir_route_path*)c->path, n);
  c->path_len = n + 1;
  if (route >> 32) {
    c->path_len = 0;
    remember_route(c, route, c->path);
    c->fifo[(c->head - 1) & (FIFO - 1)].route = route;
  }
  return 0;
}

__noinline int weir_push_request(struct weir_conn* c, struct weir_request* r) {
  if (!c || !r) return 0;
  const __u32 waiting = c->head - c->tail;
  if (waiting == 0 && !c->pipelined) weir_finish(c, r->pos, c->flow[!request_dir(c)].pos);
  if (waiting >= FIFO || c->over_head != c->over_tail) {  // nobody overtakes those
    c->over_ns = r->t0;
    c->over_head++;
    c->path_len = 0;
    note(WEIR_STAT_FIFO_OVERFLOW);
    return 0;
  }
  c->fifo[c->head & (FIFO - 1)] = *r;
  barrier();
  c->head++;
  if (waiting) c->pipelined = 1;
  return 0;
}

// ---- responses ------------------------------------------------------------------------------

static __always_inline int waits_for_response(struct weir_conn* c) {
  return c->head != c->tail || c->over_head != c->over_tail || c->since_ns;
}

// A response's head, or, when nobody waits for one, a body that looks like it: then 0.
__noinline int weir_begin_response(struct weir_conn* c, __u64 now, __u64 pos, __u32 status) {
  if (!c) return 0;
  if (!waits_for_response(c)) {
    if (c->open == NOT_OPEN) note(WEIR_STAT_UNMATCHED);
    return 0;
  }
  weir_finish(c, next_request_pos(c), pos);
  if (status < 200 && status != 101) {  // not the answer yet
    if (!c->interim) c->interim_pos = pos;
    c->interim = 1;
    return 1;
  }
  if (c->head != c->tail) {
    c->now = c->fifo[c->tail & (FIFO - 1)];
    barrier();
    c->tail++;
  } else {
    struct weir_request r = {.pos = c->flow[request_dir(c)].pos, .route = WEIR_ROUTE_UNSEEN};
    if (c->over_head != c->over_tail) {
      c->over_tail++;
      r.t0 = c->over_ns;
    } else {
      r.t0 = c->since_ns;
      r.pos = c->since_pos;
      note(WEIR_STAT_ORPHANS);
    }
    c->now = r;
  }
  c->since_ns = 0;
  c->response_pos = c->interim ? c->interim_pos : pos;
  c->interim = 0;
  c->status = status;
  c->first_ns = c->last_ns = now;
  barrier();
  c->open = OPEN;
  if (status == 101 || (c->now.method == WEIR_METHOD_CONNECT && status < 300)) {
    weir_finish(c, next_request_pos(c), pos);  // another protocol from here on
    c->opaque = 1;
  }
  return 1;
}

// ---- segments -------------------------------------------------------------------------------

// The up to 16 bytes at `off`, zero filled.
static __always_inline __u32 load_head(struct __sk_buff* skb, __u32 off, __u32 end, __u64 to[2]) {
  to[0] = to[1] = 0;
  __u32 n = end - off;
  if (off >= end) return 0;
  if (n >= 16) return bpf_skb_load_bytes(skb, off, to, 16) == 0 ? 16 : 0;
  barrier_var(n);
  if (n < 1 || n > 15) return 0;
  return bpf_skb_load_bytes(skb, off, to, n) == 0 ? n : 0;
}

struct weir_found {
  __u64 head;  // packed weir_head
  __u64 t0;
  __u32 at;  // where in the packet its first byte is, or would be if it came in an earlier one
  __u32 pad;
};

// A head at the segment's start, or begun in earlier ones. Body tails ("P", "GET") look like the
// beginning of a head, so the plain segment goes first.
__noinline int weir_find_head(struct __sk_buff* skb, struct weir_conn* c, struct weir_segment* s,
                              __u32 is_request, struct weir_found* found) {
  if (!c || !s || !found) return 0;
  __u64 w[2], joined[2];
  struct weir_flow* f = &c->flow[s->dir & 1];
  const __u32 n = load_head(skb, s->off, s->end, w);
  const __u64 plain = is_request ? weir_request_at(w[0], w[1], n) : weir_response_at(w[0], w[1], n);
  const __u32 before = f->prefix_len & 15;
  found->t0 = s->now;
  found->at = s->off;
  found->head = plain;
  f->prefix_len = 0;
  if ((__u16)plain == WEIR_HEAD_WHOLE) return 0;
  if (before) {
    weir_join(f->prefix[0], f->prefix[1], before, w[0], w[1], &joined[0], &joined[1]);
    const __u32 sum = before + n > 16 ? 16 : before + n;
    const __u64 both = is_request ? weir_request_at(joined[0], joined[1], sum)
                                  : weir_response_at(joined[0], joined[1], sum);
    if ((__u16)both != WEIR_HEAD_NONE) {
      found->head = both;
      found->t0 = f->prefix_ns;
      found->at = s->off - before;
      if ((__u16)both == WEIR_HEAD_PARTIAL) {
        f->prefix[0] = joined[0];
        f->prefix[1] = joined[1];
        f->prefix_len = sum;
      }
      return 0;
    }
  }
  if ((__u16)plain == WEIR_HEAD_PARTIAL) {
    f->prefix[0] = w[0];
    f->prefix[1] = w[1];
    f->prefix_ns = s->now;
    f->prefix_len = n;
  }
  return 0;
}

struct weir_block {
  __u64 words[WEIR_SCAN_BYTES / 8];
};

// Where heads may follow (the end of one before) or begin, one bit for each byte of the block.
__noinline __u64 weir_marks(struct weir_block* block, __u32 is_request) {
  if (!block) return 0;
  return is_request ? weir_find4(block->words, '\r', '\n', '\r', '\n')
                    : weir_find4(block->words, 'H', 'T', 'T', 'P');
}

static __always_inline __u32 load_block(struct __sk_buff* skb, __u32 off, __u32 end, void* to) {
  __u32 n = end - off;
  if (off >= end) return 0;
  if (n >= WEIR_SCAN_BYTES)
    return bpf_skb_load_bytes(skb, off, to, WEIR_SCAN_BYTES) == 0 ? WEIR_SCAN_BYTES : 0;
  barrier_var(n);
  if (n < 1 || n > WEIR_SCAN_BYTES - 1) return 0;
  return bpf_skb_load_bytes(skb, off, to, n) == 0 ? n : 0;
}

static __always_inline int has_body(__u32 method) {
  return method == WEIR_METHOD_POST || method == WEIR_METHOD_PUT || method == WEIR_METHOD_PATCH;
}

static __always_inline __u32 waiting_for_response(struct weir_conn* c) {
  return c->head != c->tail || c->over_head != c->over_tail;
}

// Where a request's body begins and how long it is: found while its head is looked through.
struct weir_body {
  __u64 length;
  __u32 off, end;  // to be looked through
  __u32 begin;     // 0: the head goes on
  __u32 tells;     // its length
};

// The next empty line or "\r\nCo" from `off` on; false at the end.
__noinline int weir_length_step(struct __sk_buff* skb, struct weir_body* body) {
  if (!body) return 0;
  struct weir_block block = {};
  __u64 w[2];
  const __u32 n = load_block(skb, body->off, body->end, &block);
  if (n < 4) return 0;
  const __u64 ends = weir_find4(block.words, '\r', '\n', '\r', '\n');
  const __u64 lines =
      weir_find4(block.words, '\r', '\n', 'C', 'o') | weir_find4(block.words, '\r', '\n', 'c', 'o');
  if (!(ends | lines)) {
    body->off += WEIR_SCAN_STEP;
    return n == WEIR_SCAN_BYTES;
  }
  const __u32 at = weir_lowest_bit(ends | lines);
  const __u32 mark = body->off + at;
  body->off = mark + 2;
  if (ends >> at & 1) {
    body->begin = mark + 4;
    return 0;
  }
  load_head(skb, mark + 2, body->end, w);
  if (!weir_is_content_length(w[0], w[1])) return 1;
  load_head(skb, mark + 17, body->end, w);
  body->length = weir_parse_length(w[0], w[1]);
  body->tells = 1;
  return 1;
}

struct weir_length_scan {
  struct __sk_buff* skb;
  struct weir_body* body;
};

static long length_step(__u32 step, struct weir_length_scan* scan) {
  return !weir_length_step(scan->skb, scan->body);
}

// Heads are not looked for in a body whose length its head tells, nor, while its answer has not
// begun, in one of unknown length.
__noinline int weir_note_body(struct __sk_buff* skb, struct weir_conn* c, struct weir_segment* s) {
  if (!c || !s) return 0;
  struct weir_body body = {.off = s->body_at, .end = s->end};
  if (body.end > s->body_at + SCANNED_BYTES) body.end = s->body_at + SCANNED_BYTES;
  s->body_at = 0;
  struct weir_length_scan scan = {.skb = skb, .body = &body};
  bpf_loop(LENGTH_STEPS, length_step, &scan, 0);
  c->body_end = body.begin && body.tells ? s->pos - s->off + body.begin + body.length : 0;
  return 0;
}

static __always_inline void request_found(struct __sk_buff* skb, struct weir_conn* c,
                                          struct weir_segment* s, struct weir_found* found) {
  struct weir_request r = {
      .t0 = found->t0, .pos = s->pos - s->off + found->at, .method = found->head >> 16};
  r.route = weir_route_at(skb, c, s, found->at + (__u16)(found->head >> 32));
  if (has_body(r.method)) s->body_at = s->off > found->at ? s->off : found->at;
  weir_push_request(c, &r);
}

// Looks for one more head in the 64 bytes at `off`; returns where to go on, 0 at the end.
__noinline __u32 weir_scan_block(struct __sk_buff* skb, struct weir_conn* c, struct weir_segment* s,
                                 __u32 off, __u32 is_request) {
  if (!c || !s) return 0;
  struct weir_block block = {};
  __u64 w[2];
  __u32 end = s->end;
  // One request after another is rare until it was seen: look at the first KiB only.
  if (is_request && !c->pipelined && end > s->off + SCANNED_BYTES) end = s->off + SCANNED_BYTES;
  if (!is_request && !waiting_for_response(c)) return 0;
  const __u32 n = load_block(skb, off, end, &block);
  if (n < 5) return 0;
  const __u64 bits = weir_marks(&block, is_request);
  if (!bits) return n < WEIR_SCAN_BYTES ? 0 : off + WEIR_SCAN_STEP;
  const __u32 mark = off + weir_lowest_bit(bits);
  struct weir_found found = {.t0 = s->now, .at = is_request ? mark + 4 : mark};
  const __u32 have = load_head(skb, found.at, s->end, w);
  found.head = is_request ? weir_request_at(w[0], w[1], have) : weir_response_at(w[0], w[1], have);
  if ((__u16)found.head == WEIR_HEAD_PARTIAL) {  // the segment ends inside it
    struct weir_flow* f = &c->flow[s->dir & 1];
    f->prefix[0] = w[0];
    f->prefix[1] = w[1];
    f->prefix_ns = s->now;
    f->prefix_len = have;
    return 0;
  }
  if ((__u16)found.head == WEIR_HEAD_WHOLE) {
    if (is_request) {
      request_found(skb, c, s, &found);
      if (has_body((__u8)(found.head >> 16))) return 0;
    } else {
      weir_begin_response(c, s->now, s->pos - s->off + found.at, (__u16)(found.head >> 16));
    }
  }
  return mark + 4;
}

// Heads inside a segment: pipelining. A block is its own function and returns an unknown offset,
// so the verifier sees the loop's body once.
struct weir_scan {
  struct __sk_buff* skb;
  struct weir_conn* c;
  struct weir_segment* s;
  __u32 off, is_request;
};

static long scan_step(__u32 step, struct weir_scan* scan) {
  scan->off = weir_scan_block(scan->skb, scan->c, scan->s, scan->off, scan->is_request);
  return scan->off == 0;
}

// One head or the rest of one, and, where requests follow each other, those behind it. True: a body
// ends within the segment, so there is more to look at.
__noinline int weir_request_step(struct __sk_buff* skb, struct weir_conn* c,
                                 struct weir_segment* s) {
  if (!c || !s) return 0;
  if (c->body_end > s->pos) {
    const __u64 skip = c->body_end - s->pos;
    if (skip >= s->end - s->off) return 0;
    s->off += skip;
    s->pos += skip;
  }
  const __u32 method = c->fifo[(c->head - 1) & (FIFO - 1)].method;
  const int in_body = has_body(method) && c->head != c->tail && c->body_end == 0;
  struct weir_found found = {};
  if (c->path_len) {
    weir_extend_path(skb, c, s);
  } else {
    if (!in_body) weir_find_head(skb, c, s, 1, &found);
    if ((__u16)found.head == WEIR_HEAD_WHOLE) {
      request_found(skb, c, s, &found);
    } else if (!c->since_ns) {
      c->since_pos = s->pos;
      c->since_ns = s->now;
    }
  }
  const int scans = c->pipelined || c->request_segments < SCANNED_SEGMENTS;
  if (c->request_segments < SCANNED_SEGMENTS) c->request_segments++;
  if (scans && !has_body(c->fifo[(c->head - 1) & (FIFO - 1)].method)) {
    struct weir_scan scan = {.skb = skb, .c = c, .s = s, .off = s->off, .is_request = 1};
    bpf_loop(SCAN_STEPS, scan_step, &scan, 0);
  }
  if (s->body_at) weir_note_body(skb, c, s);
  return c->body_end > s->pos;
}

static long request_step(__u32 step, struct weir_scan* scan) {
  return !weir_request_step(scan->skb, scan->c, scan->s);
}

// The loops are called from here, not from a function: a program has eight frames, and counting an
// exchange is deep.
static __always_inline void request_segment(struct __sk_buff* skb, struct weir_conn* c,
                                            struct weir_segment* s) {
  struct weir_scan scan = {.skb = skb, .c = c, .s = s};
  bpf_loop(BODIES_PER_SEGMENT, request_step, &scan, 0);
}

__noinline int weir_response_segment(struct __sk_buff* skb, struct weir_conn* c,
                                     struct weir_segment* s) {
  if (!c || !s) return 0;
  struct weir_found found = {};
  weir_find_head(skb, c, s, 0, &found);
  int begun = 0;
  if ((__u16)found.head == WEIR_HEAD_WHOLE)
    begun = weir_begin_response(c, s->now, s->pos - s->off + found.at, (__u16)(found.head >> 16));
  if (!begun && c->open == OPEN) c->last_ns = s->now;
  if (c->opaque || !waiting_for_response(c)) return 0;
  struct weir_scan scan = {.skb = skb, .c = c, .s = s, .off = s->off + 1, .is_request = 0};
  bpf_loop(SCAN_STEPS, scan_step, &scan, 0);
  return 0;
}

static __always_inline void give_up(struct weir_conn* c) {
  c->opaque = 1;
  note(WEIR_STAT_OPAQUE);
}

// What a connection begins with, as the words of its first bytes say.
struct weir_guess {
  __u64 request, answer, protocol;  // packed weir_heads
};

__noinline __u64 weir_protocol_at(__u64 a, __u64 b, __u32 n) {
  const struct weir_head head = weir_parse_protocol(a, b, n);
  return head.kind | (__u64)head.value << 16 | (__u64)head.path_off << 32;
}

__noinline __u32 weir_guess_at(struct weir_guess* guess, __u64 a, __u64 b, __u32 n) {
  if (!guess) return 0;
  guess->request = weir_request_at(a, b, n);
  guess->answer = weir_response_at(a, b, n);
  guess->protocol = weir_protocol_at(a, b, n);
  const __u64 kinds = guess->request | guess->answer | guess->protocol;
  return kinds & WEIR_HEAD_WHOLE ? WEIR_HEAD_WHOLE : (__u16)kinds;
}

// Counts a connection that is not HTTP/1 and leaves it alone.
__noinline int weir_count_connection(struct weir_conn* c, struct weir_segment* s, __u64 protocol) {
  if (!c || !s) return 0;
  const __u32 client_speaks = protocol >> 32 == WEIR_SPEAKER_CLIENT;
  struct weir_done d = {
      .cgroup = c->cgroup,
      .port = client_speaks ? s->dest : s->source,
      .role = client_speaks == (s->dir == IN) ? WEIR_ROLE_SERVER : WEIR_ROLE_CLIENT,
      .proto = protocol >> 16,
      .n = 1};
  note(d.proto == WEIR_PROTO_TLS ? WEIR_STAT_TLS : WEIR_STAT_HTTP2);
  weir_count(&d);
  give_up(c);
  return 0;
}

// A connection whose role is not known: the first head tells. Given up after so many changes of
// direction without one.
__noinline int weir_first_segments(struct __sk_buff* skb, struct weir_conn* c,
                                   struct weir_segment* s) {
  if (!c || !s) return 0;
  struct weir_flow* f = &c->flow[s->dir & 1];
  const __u32 before = f->prefix_len & 15;
  // The middle of a body of a connection that is older than this program: it may be long, and the
  // next head comes the other way.
  const __u32 same_way = c->last_strange == s->dir + 1;
  if (c->strange >= STRANGE_LIMIT && same_way && !before) return 0;
  struct weir_guess guess;
  __u64 w[2], joined[2];
  __u32 n = load_head(skb, s->off, s->end, w);
  __u32 kind = weir_guess_at(&guess, w[0], w[1], n);
  __u64 begun_ns = s->now;
  if (kind != WEIR_HEAD_WHOLE && before) {
    struct weir_guess longer;
    weir_join(f->prefix[0], f->prefix[1], before, w[0], w[1], &joined[0], &joined[1]);
    const __u32 sum = before + n > 16 ? 16 : before + n;
    const __u32 joined_kind = weir_guess_at(&longer, joined[0], joined[1], sum);
    if (joined_kind != WEIR_HEAD_NONE) {
      guess = longer;
      kind = joined_kind;
      w[0] = joined[0];
      w[1] = joined[1];
      n = sum;
      begun_ns = f->prefix_ns;
    }
  }
  if (kind == WEIR_HEAD_PARTIAL) {
    f->prefix[0] = w[0];
    f->prefix[1] = w[1];
    f->prefix_ns = begun_ns;
    f->prefix_len = n;
  } else if (kind == WEIR_HEAD_NONE) {
    f->prefix_len = 0;
    c->last_strange = s->dir + 1;
    if (c->strange < STRANGE_LIMIT) c->strange++;
    if (!same_way && ++c->turns >= STRANGE_LIMIT) give_up(c);
  } else if ((__u16)guess.protocol == WEIR_HEAD_WHOLE) {
    weir_count_connection(c, s, guess.protocol);
  } else if ((__u16)guess.request == WEIR_HEAD_WHOLE) {
    c->role = s->dir == IN ? WEIR_ROLE_SERVER : WEIR_ROLE_CLIENT;
    c->port = s->dest;
  } else {
    c->role = s->dir == OUT ? WEIR_ROLE_SERVER : WEIR_ROLE_CLIENT;
    c->port = s->source;
  }
  return 0;
}
