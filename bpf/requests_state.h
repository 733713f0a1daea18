#pragma once
// The request programs' state: a connection's, in its socket's storage, and the maps shared with
// user space (bpf/requests.h). Included by requests.bpf.c alone. Bounded: every map has
// max_entries, set by user space before load.

#include "bpf/weir_core.h"

#include "bpf/http_parse.h"
#include "bpf/route_hash.h"

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
  SCAN_STEPS = 4096,
  LENGTH_STEPS = 64,  // of looking for Content-Length, each a block or a header line
  BODIES_PER_SEGMENT = 64,
  EARLY_WINDOW = 1 << 20  // bytes that may follow a request at the listener before it is missed
};

// Filled in before load from common/sketch/index_table, so there is one table only.
const volatile struct weir_index_slot index_slots[WEIR_INDEX_SLOTS] = {};
const volatile __u32 cells_high = 0;  // from here on new routes are WEIR_ROUTE_OTHER
// 1 in the fuzz test alone, whose sockets (of BPF_PROG_TEST_RUN) have no protocol. The verifier
// knows the value and removes the question.
const volatile __u8 any_protocol = 0;
static const struct weir_cell empty_cell = {};
__u64 cells_used = 0;  // since the last swap; user space zeroes it
__u64 idle_ns = 0;  // quiet for so long, an answer is reported as it stands; 0 at the last harvest

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
  struct weir_request now;                // being answered, valid unless `open` is NOT_OPEN
  __u64 response_pos, first_ns, last_ns;  // of the answer
  __u64 since_ns, since_pos;  // first request payload without a head since the newest response
  __u64 interim_pos;          // where a 1xx began, its final answer to come
  __u64 reported_request, reported_response;  // flow positions when it was reported
  __u64 over_ns;
  __u64 body_end;  // where the newest request's body ends, if it has one and tells
  __u64 cgroup;
  __u32 head, tail;
  __u32 over_head, over_tail;  // requests that found the FIFO full
  __u32 open;
  __u16 status, port;
  __u8 role, opaque, strange, pipelined;
  __u8 request_segments, interim, path_len;
  __u8 last_strange, turns;  // payloads without a head while the role is unknown
  __u8 pad[7];
  __u8 path[2 * WEIR_PATH_BYTES];  // a target cut by the end of a segment
};

struct weir_segment {
  __u64 now, pos;
  __u32 off, end;  // of the payload not seen before
  __u32 body_at;   // where a head was found that a body follows; 0: none was
  __u32 seq, ack;
  __u16 source, dest;
  __u8 version, dir;
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

// Where a response goes when `cells` is full: [what == FIRST][role - 1][class][octave].
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
  __uint(max_entries, 16384);
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
