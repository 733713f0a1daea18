// HTTP/1.x requests, timed and counted at the socket. Every TCP segment of every cgroup passes
// here, in softirq (ingress) or under the socket lock (egress); the verdict is always "pass".
//
// State of a connection lives in its socket's storage and dies with it. Per connection the request
// direction alone writes `head`, the response direction `tail`; whoever ends an exchange takes
// `open` first. Egress can be interrupted by ingress on the same CPU, so there is no per-CPU
// scratch and every add is atomic. The rules are docs/requests.md.

#include "bpf/weir_core.h"

#include "bpf/http_parse.h"

#define TCP_PROTOCOL 6
#define STATE_FIN_WAIT2 5
#define STATE_CLOSE 7
#define STATE_CLOSE_WAIT 8
#define STATE_LISTEN 10

enum {
  IN = 0,
  OUT = 1,
  FIFO = 8,
  STRANGE_LIMIT = 8,
  SCANNED_SEGMENTS = 4,
  SCANNED_BYTES = 1024,
  SCAN_STEPS = 4096
};

char LICENSE[] SEC("license") = "GPL";

// Filled in before load from common/sketch/index_table, so there is one table only.
const volatile struct weir_index_slot index_slots[WEIR_INDEX_SLOTS] = {};
const volatile __u64 idle_ns = 0;     // quiet for so long, an answer is reported as it stands
const volatile __u32 cells_high = 0;  // from here on new routes are WEIR_ROUTE_OTHER
static const struct weir_cell empty_cell = {};
__u64 cells_used = 0;  // since the last swap; user space zeroes it

// One direction of a connection.
struct weir_flow {
  __u64 pos;        // payload bytes up to `next`
  __u64 prefix[2];  // the newest bytes, if they may begin a head
  __u64 prefix_ns;
  __u32 next;              // sequence number after the newest byte
  __u32 hole_lo, hole_hi;  // the newest gap; empty when equal
  __u8 seen, prefix_len, pad[2];
};

struct weir_request {
  __u64 t0, pos;  // first byte: when, and where in the flow
  __u32 route;
  __u8 method, pad[3];
};

struct weir_conn {
  struct weir_flow flow[2];
  struct weir_request fifo[FIFO];
  struct weir_request now;  // being answered, valid unless `open` is NOT_OPEN
  __u64 response_pos, last_ns;
  __u64 since_ns, since_pos;  // first request payload without a head since the newest response
  __u64 interim_pos;          // where a 1xx began, its final answer to come
  __u64 reported_request, reported_response;  // flow positions when it was reported
  __u64 over_ns;
  __u64 cgroup;
  __u32 head, tail;
  __u32 over_head, over_tail;  // requests that found the FIFO full
  __u32 open;
  __u16 status, port;
  __u8 role, opaque, strange, pipelined;
  __u8 request_segments, interim, path_len, pad;
  __u8 path[2 * WEIR_PATH_BYTES];  // a target cut by the end of a segment
};

struct weir_segment {
  __u64 now, pos;
  __u32 off, end;  // of the payload not seen before
  __u32 seq, ack;
  __u16 source, dest;
  __u8 version, syn, dir;
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct weir_conn);
} conns SEC(".maps");

// The map being filled; user space swaps it each second and drains the one taken out.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(
      values, struct {
        __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
        __uint(max_entries, 1024);
        __uint(key_size, sizeof(struct weir_cell_key));
        __uint(value_size, sizeof(struct weir_cell));
      });
} cells SEC(".maps");

// Where a response goes when `cells` is full: [role - 1][class][octave].
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(
      values, struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, WEIR_FOLD_CELLS);
        __uint(key_size, sizeof(__u32));
        __uint(value_size, sizeof(struct weir_cell));
      });
} fold SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct weir_early_key);
  __type(value, struct weir_early);
} early SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, struct weir_route_key);
  __type(value, struct weir_route_path);
} routes SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, struct weir_listener_key);
  __type(value, struct weir_listener);
} listeners SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, WEIR_STATS);
  __type(key, __u32);
  __type(value, __u64);
} stats SEC(".maps");

static __always_inline void note_times(__u32 what, __u64 times) {
  __u64* n = bpf_map_lookup_elem(&stats, &what);
  if (n) __sync_fetch_and_add(n, times);
}

static __always_inline void note(__u32 what) { note_times(what, 1); }

// ---- counting -------------------------------------------------------------------------------

struct weir_done {
  __u64 cgroup, latency_ns, request_bytes, response_bytes;
  __u32 route, n;
  __u16 port, status;
  __u8 method, role, pad[2];
};

static __always_inline void raise(__u64* where, __u64 value) {
  for (int i = 0; i < 4; ++i) {
    const __u64 old = *(volatile __u64*)where;
    if (old >= value || __sync_val_compare_and_swap(where, old, value) == old) return;
  }
}

// Adds n exchanges to their cell; what finds no room goes to `fold`, so totals stay exact.
__noinline int weir_count(struct weir_done* d) {
  if (!d) return 0;
  const __u32 zero = 0;
  const __u32 bucket = weir_bucket(index_slots, d->latency_ns);
  struct weir_cell_key key = {.cgroup = d->cgroup,
                              .route = d->route,
                              .port = d->port,
                              .status = d->status,
                              .method = d->method,
                              .role = d->role,
                              .proto = WEIR_PROTO_HTTP1,
                              .octave = bucket >> 6};
  struct weir_cell* cell = 0;
  void* map = bpf_map_lookup_elem(&cells, &zero);
  if (map) {
    cell = bpf_map_lookup_elem(map, &key);
    if (!cell && cells_used >= cells_high) {
      key.route = WEIR_ROUTE_OTHER;
      note(WEIR_STAT_ROUTES_OTHER);
      cell = bpf_map_lookup_elem(map, &key);
    }
    if (!cell) {
      if (bpf_map_update_elem(map, &key, &empty_cell, BPF_NOEXIST) == 0)
        __sync_fetch_and_add(&cells_used, 1);
      cell = bpf_map_lookup_elem(map, &key);
    }
  }
  if (!cell) {
    const __u32 role = d->role == WEIR_ROLE_CLIENT;
    const __u32 at =
        (role * WEIR_CLASSES + weir_status_class(d->status)) * WEIR_OCTAVES + (bucket >> 6);
    note(WEIR_STAT_CELLS_FOLDED);
    map = bpf_map_lookup_elem(&fold, &zero);
    if (map) cell = bpf_map_lookup_elem(map, &at);
  }
  if (!cell) return 0;
  __sync_fetch_and_add(&cell->request_bytes, d->request_bytes);
  __sync_fetch_and_add(&cell->response_bytes, d->response_bytes);
  if (!d->n) return 0;
  __sync_fetch_and_add(&cell->n[bucket & (WEIR_OCTAVE_BUCKETS - 1)], d->n);
  __sync_fetch_and_add(&cell->sum_ns, d->latency_ns * d->n);
  raise(&cell->min_inverted, ~d->latency_ns);
  raise(&cell->max_ns, d->latency_ns);
  return 0;
}

static __always_inline __u64 distance(__u64 from, __u64 to) { return to > from ? to - from : 0; }

static __always_inline __u32 request_dir(struct weir_conn* c) {
  return c->role == WEIR_ROLE_CLIENT ? OUT : IN;
}

// Where the request after the one being answered begins, or where its flow stands.
static __always_inline __u64 next_request_pos(struct weir_conn* c) {
  if (c->head != c->tail) return c->fifo[c->tail & (FIFO - 1)].pos;
  if (c->since_ns) return c->since_pos;
  return c->flow[request_dir(c) & 1].pos;
}

enum { NOT_OPEN = 0, OPEN = 1, REPORTED = 2 };

static __always_inline void count_exchange(struct weir_conn* c, __u32 n, __u64 request_from,
                                           __u64 request_end, __u64 response_from,
                                           __u64 response_end) {
  struct weir_done d = {.cgroup = c->cgroup,
                        .latency_ns = distance(c->now.t0, c->last_ns),
                        .request_bytes = distance(request_from, request_end),
                        .response_bytes = distance(response_from, response_end),
                        .route = c->now.route,
                        .n = n,
                        .port = c->port,
                        .status = c->status,
                        .method = c->now.method,
                        .role = c->role};
  if (n || d.request_bytes || d.response_bytes) weir_count(&d);
}

// The exchange being answered is over: its response ended at the last response byte seen.
__noinline int weir_finish(struct weir_conn* c, __u64 request_end, __u64 response_end) {
  if (!c) return 0;
  switch (__sync_lock_test_and_set(&c->open, NOT_OPEN)) {
    case OPEN:
      count_exchange(c, 1, c->now.pos, request_end, c->response_pos, response_end);
      break;
    case REPORTED:  // only the bytes since then
      count_exchange(c, 0, c->reported_request, request_end, c->reported_response, response_end);
      break;
  }
  return 0;
}

// The exchange has been quiet for long: report it, though only the next one or CLOSE will tell.
__noinline int weir_report(struct weir_conn* c) {
  if (!c) return 0;
  const __u32 requests = request_dir(c) & 1;
  if (__sync_val_compare_and_swap(&c->open, OPEN, REPORTED) != OPEN) return 0;
  c->reported_request = c->flow[requests].pos;
  c->reported_response = c->flow[!requests].pos;
  count_exchange(c, 1, c->now.pos, c->reported_request, c->response_pos, c->reported_response);
  return 0;
}

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
  if (waiting >= FIFO) {
    c->over_ns = r->t0;
    c->over_head++;
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

__noinline int weir_begin_response(struct weir_conn* c, __u64 now, __u64 pos, __u32 status) {
  if (!c) return 0;
  weir_finish(c, next_request_pos(c), pos);
  if (status < 200 && status != 101) {  // not the answer yet
    if (!c->interim) c->interim_pos = pos;
    c->interim = 1;
    return 0;
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
    } else if (c->since_ns) {
      r.t0 = c->since_ns;
      r.pos = c->since_pos;
      note(WEIR_STAT_ORPHANS);
    } else {
      note(WEIR_STAT_UNMATCHED);
      return 0;
    }
    c->now = r;
  }
  c->since_ns = 0;
  c->response_pos = c->interim ? c->interim_pos : pos;
  c->interim = 0;
  c->status = status;
  c->last_ns = now;
  barrier();
  c->open = OPEN;
  if (status == 101 || (c->now.method == WEIR_METHOD_CONNECT && status < 300)) {
    weir_finish(c, next_request_pos(c), pos);  // another protocol from here on
    c->opaque = 1;
  }
  return 0;
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

static __always_inline void request_found(struct __sk_buff* skb, struct weir_conn* c,
                                          struct weir_segment* s, struct weir_found* found) {
  struct weir_request r = {
      .t0 = found->t0, .pos = s->pos - s->off + found->at, .method = found->head >> 16};
  r.route = weir_route_at(skb, c, s, found->at + (__u16)(found->head >> 32));
  weir_push_request(c, &r);
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

__noinline int weir_request_segment(struct __sk_buff* skb, struct weir_conn* c,
                                    struct weir_segment* s) {
  if (!c || !s) return 0;
  struct weir_found found = {};
  if (c->path_len) {
    weir_extend_path(skb, c, s);
  } else {
    weir_find_head(skb, c, s, 1, &found);
    if ((__u16)found.head == WEIR_HEAD_WHOLE) {
      request_found(skb, c, s, &found);
    } else if (!c->since_ns) {
      c->since_pos = s->pos;
      c->since_ns = s->now;
    }
  }
  if (c->request_segments < SCANNED_SEGMENTS)
    c->request_segments++;
  else if (!c->pipelined)
    return 0;
  if (has_body(c->fifo[(c->head - 1) & (FIFO - 1)].method)) return 0;
  struct weir_scan scan = {.skb = skb, .c = c, .s = s, .off = s->off, .is_request = 1};
  bpf_loop(SCAN_STEPS, scan_step, &scan, 0);
  return 0;
}

__noinline int weir_response_segment(struct __sk_buff* skb, struct weir_conn* c,
                                     struct weir_segment* s) {
  if (!c || !s) return 0;
  struct weir_found found = {};
  weir_find_head(skb, c, s, 0, &found);
  if ((__u16)found.head == WEIR_HEAD_WHOLE)
    weir_begin_response(c, s->now, s->pos - s->off + found.at, (__u16)(found.head >> 16));
  else if (c->open == OPEN)
    c->last_ns = s->now;
  if (c->opaque || !waiting_for_response(c)) return 0;
  struct weir_scan scan = {.skb = skb, .c = c, .s = s, .off = s->off + 1, .is_request = 0};
  bpf_loop(SCAN_STEPS, scan_step, &scan, 0);
  return 0;
}

static __always_inline void give_up(struct weir_conn* c) {
  c->opaque = 1;
  note(WEIR_STAT_OPAQUE);
}

// A connection whose role is not known: the first head tells.
__noinline int weir_first_segments(struct __sk_buff* skb, struct weir_conn* c,
                                   struct weir_segment* s) {
  if (!c || !s) return 0;
  __u64 w[2];
  const __u32 n = load_head(skb, s->off, s->end, w);
  if (weir_is_tls(w[0], n) || weir_is_http2(w[0], n)) {
    note(weir_is_tls(w[0], n) ? WEIR_STAT_TLS : WEIR_STAT_HTTP2);
    give_up(c);
    return 0;
  }
  const struct weir_flow* f = &c->flow[s->dir & 1];
  const __u32 before = f->prefix_len & 15;
  __u64 a = w[0], b = w[1];
  __u32 sum = n;
  __u64 plain = weir_request_at(a, b, n);
  __u64 answer = weir_response_at(a, b, n);
  if (before && (__u16)plain != WEIR_HEAD_WHOLE && (__u16)answer != WEIR_HEAD_WHOLE) {
    weir_join(f->prefix[0], f->prefix[1], before, w[0], w[1], &a, &b);
    sum = before + n > 16 ? 16 : before + n;
    const __u64 joined = weir_request_at(a, b, sum);
    if ((__u16)joined != WEIR_HEAD_NONE) plain = joined;
    const __u64 joined_answer = weir_response_at(a, b, sum);
    if ((__u16)joined_answer != WEIR_HEAD_NONE) answer = joined_answer;
  }
  if ((__u16)plain == WEIR_HEAD_WHOLE) {
    c->role = s->dir == IN ? WEIR_ROLE_SERVER : WEIR_ROLE_CLIENT;
    c->port = s->dest;
    return 0;
  }
  if ((__u16)answer == WEIR_HEAD_WHOLE) {
    c->role = s->dir == OUT ? WEIR_ROLE_SERVER : WEIR_ROLE_CLIENT;
    c->port = s->source;
    return 0;
  }
  struct weir_found found = {};
  if ((__u16)plain == WEIR_HEAD_PARTIAL) {
    weir_find_head(skb, c, s, 1, &found);  // keeps the prefix
  } else if ((__u16)answer == WEIR_HEAD_PARTIAL) {
    weir_find_head(skb, c, s, 0, &found);
  } else {
    c->flow[s->dir & 1].prefix_len = 0;
    if (++c->strange >= STRANGE_LIMIT) give_up(c);
  }
  return 0;
}

// ---- requests that met the listening socket --------------------------------------------------

static __always_inline int early_key(struct __sk_buff* skb, struct weir_segment* s, __u64 cgroup,
                                     __u32 remote_is_source, struct weir_early_key* key) {
  void* source = remote_is_source ? key->remote : key->local;
  void* dest = remote_is_source ? key->local : key->remote;
  long failed;
  if (s->version == 4) {
    failed = bpf_skb_load_bytes(skb, 12, source, 4);
    failed |= bpf_skb_load_bytes(skb, 16, dest, 4);
  } else {
    failed = bpf_skb_load_bytes(skb, 8, source, 16);
    failed |= bpf_skb_load_bytes(skb, 24, dest, 16);
  }
  key->cgroup = cgroup;
  key->remote_port = remote_is_source ? s->source : s->dest;
  key->local_port = remote_is_source ? s->dest : s->source;
  return failed != 0;
}

__noinline int weir_early_request(struct __sk_buff* skb, struct weir_segment* s, __u64 cgroup) {
  if (!s) return 0;
  __u64 w[2];
  const __u32 n = load_head(skb, s->off, s->end, w);
  const __u64 head = weir_request_at(w[0], w[1], n);
  if ((__u16)head != WEIR_HEAD_WHOLE) return 0;
  struct weir_early_key key = {};
  if (early_key(skb, s, cgroup, 1, &key)) return 0;
  struct weir_early value = {
      .t0 = s->now, .seq = s->seq + s->syn, .len = s->end - s->off, .method = head >> 16};
  struct weir_early* known = bpf_map_lookup_elem(&early, &key);
  if (known && known->seq == value.seq) return 0;  // dropped before, sent again: the first counts
  struct weir_route_path path = {};
  const __u32 got = load_path(skb, s->off + (__u16)(head >> 32), s->end, &path, WEIR_PATH_BYTES);
  const __u64 route = weir_route_of(&path, got);
  if (route >> 32) {
    const struct weir_route_key route_key = {.cgroup = cgroup, .route = route};
    value.route = route;
    if (!bpf_map_lookup_elem(&routes, &route_key))
      bpf_map_update_elem(&routes, &route_key, &path, BPF_ANY);
  }
  bpf_map_update_elem(&early, &key, &value, BPF_ANY);
  note(WEIR_STAT_EARLY);
  return 0;
}

// The first segment of a connection is no request: did its request meet the listener?
__noinline int weir_adopt_early(struct __sk_buff* skb, struct weir_conn* c,
                                struct weir_segment* s) {
  if (!c || !s) return 0;
  struct weir_early_key key = {};
  if (early_key(skb, s, c->cgroup, s->dir == IN, &key)) return 0;
  struct weir_early* e = bpf_map_lookup_elem(&early, &key);
  if (!e) return 0;
  // Left over from an older connection of the same addresses, unless this one just went on.
  const __u32 ahead = (s->dir == IN ? s->seq : s->ack) - e->seq;
  if (ahead > 0 && ahead < 1u << 30) {
    struct weir_request r = {.t0 = e->t0, .pos = 0, .route = e->route, .method = e->method};
    struct weir_flow* f = &c->flow[IN];
    f->seen = 1;
    f->next = e->seq + e->len;
    f->pos = e->len;
    c->role = WEIR_ROLE_SERVER;
    c->port = key.local_port;
    c->request_segments = 1;
    weir_push_request(c, &r);
  }
  bpf_map_delete_elem(&early, &key);
  return 0;
}

// ---- the hooks ------------------------------------------------------------------------------

// Moves the flow over this segment; false when it holds nothing new.
__noinline int weir_take_new_bytes(struct weir_flow* f, struct weir_segment* s) {
  if (!f || !s) return 0;
  const __u32 seq = s->seq, len = s->end - s->off, end = seq + len;
  if (!f->seen) {
    f->seen = 1;
    f->next = seq;
  }
  if ((__s32)(end - f->next) <= 0) {
    if (f->hole_lo == f->hole_hi || (__s32)(seq - f->hole_lo) < 0 ||
        (__s32)(f->hole_hi - end) < 0) {
      note(WEIR_STAT_RETRANSMITS);
      return 0;
    }
    if (seq == f->hole_lo)
      f->hole_lo = end;
    else
      f->hole_hi = seq;
    s->pos = f->pos - (f->next - seq);
    return 1;
  }
  const __s32 ahead = seq - f->next;
  if (ahead < 0) {
    s->off -= ahead;
  } else if (ahead > 0) {
    note(WEIR_STAT_GAPS);
    f->hole_lo = f->next;
    f->hole_hi = seq;
    f->pos += ahead;
  }
  s->pos = f->pos;
  f->pos += s->end - s->off;
  f->next = end;
  return 1;
}

// IP and TCP headers; false when there is no payload or nothing we can read.
static __always_inline int read_headers(struct __sk_buff* skb, struct weir_segment* s) {
  const __u8* ip = (void*)(long)skb->data;
  const __u8* limit = (void*)(long)skb->data_end;
  const __u8* tcp;
  __u32 header;
  if (ip + 20 > limit) return 0;
  s->version = ip[0] >> 4;
  if (s->version == 4) {
    if (ip[0] != 0x45) {
      note(WEIR_STAT_IP_OPTIONS);
      return 0;
    }
    header = 20;
    tcp = ip + 20;
  } else {
    if (ip + 40 > limit) return 0;
    if (ip[6] != TCP_PROTOCOL) {
      note(WEIR_STAT_IP_OPTIONS);
      return 0;
    }
    header = 40;
    tcp = ip + 40;
  }
  if (tcp + 20 > limit) return 0;
  s->off = header + (tcp[12] >> 4) * 4;
  s->end = skb->len;
  if (s->end <= s->off) return 0;
  s->source = bpf_ntohs(*(__be16*)tcp);
  s->dest = bpf_ntohs(*(__be16*)(tcp + 2));
  s->seq = bpf_ntohl(*(__be32*)(tcp + 4));
  s->ack = bpf_ntohl(*(__be32*)(tcp + 8));
  s->syn = (tcp[13] >> 1) & 1;
  return 1;
}

static __always_inline void observe(struct __sk_buff* skb, __u32 dir) {
  struct bpf_sock* sk = skb->sk;
  struct weir_segment s = {.dir = dir};
  if (!sk) return;
  sk = bpf_sk_fullsock(sk);
  if (!sk || sk->protocol != TCP_PROTOCOL || !read_headers(skb, &s)) return;
  struct weir_conn* c = bpf_sk_storage_get(&conns, sk, 0, 0);
  if (c && c->opaque) return;
  s.now = bpf_ktime_get_ns();
  if (sk->state == STATE_LISTEN) {
    if (dir == IN) weir_early_request(skb, &s, bpf_sk_cgroup_id(sk));
    return;
  }
  if (!c) {
    c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!c) {
      note(WEIR_STAT_NO_STORAGE);
      return;
    }
    c->cgroup = bpf_sk_cgroup_id(sk);
    __u64 w[2];
    const __u32 n = load_head(skb, s.off, s.end, w);
    if ((__u16)weir_request_at(w[0], w[1], n) != WEIR_HEAD_WHOLE) weir_adopt_early(skb, c, &s);
  }
  if (!weir_take_new_bytes(&c->flow[dir], &s)) return;
  if (c->role == WEIR_ROLE_UNKNOWN) weir_first_segments(skb, c, &s);
  if (c->role == WEIR_ROLE_UNKNOWN || c->opaque) return;
  if (dir == request_dir(c))
    weir_request_segment(skb, c, &s);
  else
    weir_response_segment(skb, c, &s);
}

SEC("cgroup_skb/ingress")

int weir_ingress(struct __sk_buff* skb) {
  observe(skb, IN);
  return 1;
}

SEC("cgroup_skb/egress")

int weir_egress(struct __sk_buff* skb) {
  observe(skb, OUT);
  return 1;
}

// Whatever is pending when a connection closes was aborted.
__noinline int weir_close_connection(struct weir_conn* c) {
  if (!c) return 0;
  const __u64 now = bpf_ktime_get_ns();
  weir_finish(c, next_request_pos(c), c->flow[!request_dir(c)].pos);
  struct weir_done d = {
      .cgroup = c->cgroup, .port = c->port, .status = WEIR_STATUS_ABORTED, .role = c->role, .n = 1};
  for (int i = 0; i < FIFO && c->tail != c->head; ++i) {
    const struct weir_request r = c->fifo[c->tail & (FIFO - 1)];
    c->tail++;
    d.route = r.route;
    d.method = r.method;
    d.latency_ns = distance(r.t0, now);
    d.request_bytes = distance(r.pos, next_request_pos(c));
    weir_count(&d);
    note(WEIR_STAT_ABORTED);
  }
  d.n = c->over_head - c->over_tail;
  if (d.n) {
    d.route = WEIR_ROUTE_UNSEEN;
    d.method = WEIR_METHOD_OTHER;
    d.latency_ns = distance(c->over_ns, now);
    d.request_bytes = 0;
    c->over_tail = c->over_head;
    weir_count(&d);
    note_times(WEIR_STAT_ABORTED, d.n);
  }
  c->opaque = 1;
  return 0;
}

SEC("tp_btf/inet_sock_set_state")

int BPF_PROG(weir_socket_state, struct sock* sk, int oldstate, int newstate) {
  if (newstate == STATE_LISTEN) {
    const struct weir_listener_key key = {.cgroup = sk->sk_cgrp_data.cgroup->kn->id,
                                          .port = sk->__sk_common.skc_num};
    struct weir_listener value = {.tgid = bpf_get_current_pid_tgid() >> 32};
    bpf_get_current_comm(value.comm, sizeof value.comm);
    bpf_map_update_elem(&listeners, &key, &value, BPF_ANY);
    return 0;
  }
  if (newstate != STATE_CLOSE && newstate != STATE_FIN_WAIT2 && newstate != STATE_CLOSE_WAIT)
    return 0;
  struct weir_conn* c = bpf_sk_storage_get(&conns, sk, 0, 0);
  if (!c || c->opaque || c->role == WEIR_ROLE_UNKNOWN) return 0;
  // The response is complete once the peer has all of it (server), or once the peer, who sent it,
  // closed (client). Nothing may follow for a long time, so do not wait for CLOSE.
  if (newstate == STATE_CLOSE)
    weir_close_connection(c);
  else if ((newstate == STATE_FIN_WAIT2) == (c->role == WEIR_ROLE_SERVER))
    weir_finish(c, next_request_pos(c), c->flow[!request_dir(c)].pos);
  return 0;
}

// Run before each swap: the last answer of an idle keep-alive connection must not wait for the
// next request.
SEC("iter/bpf_sk_storage_map")

int weir_idle(struct bpf_iter__bpf_sk_storage_map* ctx) {
  struct weir_conn* c = ctx->value;
  if (!c) return 0;
  if (c->open == OPEN && c->head == c->tail && !c->opaque &&
      bpf_ktime_get_ns() - c->last_ns > idle_ns)
    weir_report(c);
  return 0;
}
