#pragma once
// What bpf/requests.bpf.c and daemon/request_probe.cc share: map keys, map values, counters.
//
// Padding rule: every pad is a field, every size is asserted, every key is built in zeroed memory;
// an unset pad byte makes a new key of every update.

#include <linux/types.h>

#ifdef __cplusplus
#define WEIR_STATIC_ASSERT static_assert
#else
#define WEIR_STATIC_ASSERT _Static_assert
#endif

enum {
  WEIR_SCALE = 6,           // of the sketch the cells are cut from
  WEIR_INDEX_SLOTS = 128,   // 2^(scale+1)
  WEIR_BUCKET_BASE = 1920,  // cell bucket = sketch index + this, so it is never negative
  WEIR_OCTAVES = 65,        // buckets 0..4102, 64 to an octave
  WEIR_OCTAVE_BUCKETS = 64,
  WEIR_PATH_BYTES = 64,  // of a request target that are hashed and kept
  WEIR_CLASSES = 8,      // of status, see weir_status_class()
  WEIR_FOLD_HALF = 2 * WEIR_CLASSES * WEIR_OCTAVES,
  WEIR_FOLD_CELLS = 2 * WEIR_FOLD_HALF,  // the second half: times to the first byte
};

enum weir_role { WEIR_ROLE_UNKNOWN = 0, WEIR_ROLE_SERVER = 1, WEIR_ROLE_CLIENT = 2 };

enum weir_method {
  WEIR_METHOD_OTHER = 0,
  WEIR_METHOD_GET = 1,
  WEIR_METHOD_HEAD = 2,
  WEIR_METHOD_POST = 3,
  WEIR_METHOD_PUT = 4,
  WEIR_METHOD_DELETE = 5,
  WEIR_METHOD_OPTIONS = 6,
  WEIR_METHOD_PATCH = 7,
  WEIR_METHOD_TRACE = 8,
  WEIR_METHOD_CONNECT = 9,
};

// Status codes below 100 that no server sends.
enum { WEIR_STATUS_UNKNOWN = 0, WEIR_STATUS_ABORTED = 1 };

// Route hashes below this are words, not hashes.
enum { WEIR_ROUTE_UNSEEN = 0, WEIR_ROUTE_OTHER = 1, WEIR_ROUTE_FIRST = 16 };

// Which time of an exchange a cell holds. An answer of one segment has one; of a longer one the
// last byte is in one cell, with the bytes, and the first byte in another: WHOLE + LAST are all
// exchanges, and so are WHOLE + FIRST.
enum weir_what { WEIR_WHOLE = 0, WEIR_LAST = 1, WEIR_FIRST = 2 };

// Of the others connections are counted, each once, in bucket 0 of a cell.
enum weir_proto { WEIR_PROTO_HTTP1 = 1, WEIR_PROTO_TLS = 2, WEIR_PROTO_HTTP2 = 3 };

// One octave of one series for one swap. All fields of the key but `octave` name the series.
struct weir_cell_key {
  __u64 cgroup;
  __u32 route;
  __u16 port;    // the server's, host order
  __u16 status;  // 100..599, or WEIR_STATUS_*
  __u8 method, role, proto, octave;
  __u8 what, pad[3];
};

WEIR_STATIC_ASSERT(sizeof(struct weir_cell_key) == 24, "no hidden padding");

// A cell is 64 neighbouring buckets of the sketch, so draining is addition. All zero when new:
// that is why the minimum is kept inverted (min_ns = ~min_inverted).
struct weir_cell {
  __u64 sum_ns, min_inverted, max_ns;
  __u64 request_bytes, response_bytes;
  __u32 n[WEIR_OCTAVE_BUCKETS];
};

WEIR_STATIC_ASSERT(sizeof(struct weir_cell) == 296, "no hidden padding");

struct weir_route_key {
  __u64 cgroup;
  __u32 route, pad;
};

WEIR_STATIC_ASSERT(sizeof(struct weir_route_key) == 16, "no hidden padding");

struct weir_route_path {
  __u8 bytes[WEIR_PATH_BYTES];  // as sent, query cut, zero filled
};

struct weir_listener_key {
  __u64 cgroup;
  __u16 port, pad[3];
};

WEIR_STATIC_ASSERT(sizeof(struct weir_listener_key) == 16, "no hidden padding");

struct weir_listener {
  __u32 tgid, pad;
  char comm[16];
};

WEIR_STATIC_ASSERT(sizeof(struct weir_listener) == 24, "no hidden padding");

// A request that met the listening socket (deferred accept, fast open, a full accept queue).
struct weir_early_key {
  __u8 remote[16], local[16];
  __u64 cgroup;
  __u16 remote_port, local_port;  // host order
  __u32 pad;
};

WEIR_STATIC_ASSERT(sizeof(struct weir_early_key) == 48, "no hidden padding");

struct weir_early {
  __u64 t0;
  __u32 route, seq, len;
  __u8 method, pad[3];
};

WEIR_STATIC_ASSERT(sizeof(struct weir_early) == 24, "no hidden padding");

// Exported as weir_ebpf_<name>_total; names in daemon/request_probe.cc.
enum weir_stat {
  WEIR_STAT_CELLS_FOLDED,       // responses counted without route, service and port: map full
  WEIR_STAT_ROUTES_OTHER,       // responses whose route became __other__: map nearly full
  WEIR_STAT_ORPHANS,            // responses whose request head was not recognised (counted)
  WEIR_STAT_UNMATCHED,          // responses without any request before them (not counted)
  WEIR_STAT_FIFO_OVERFLOW,      // pipelined requests beyond 8 (counted without route)
  WEIR_STAT_ABORTED,            // requests whose connection closed first (counted as aborted)
  WEIR_STAT_RETRANSMITS,        // segments seen before
  WEIR_STAT_GAPS,               // segments that came too early
  WEIR_STAT_EARLY,              // requests that met the listening socket
  WEIR_STAT_IP_OPTIONS,         // segments skipped for IP options or IPv6 extensions
  WEIR_STAT_OPAQUE,             // connections given up as not HTTP/1
  WEIR_STAT_TLS,                // of these: began like TLS
  WEIR_STAT_HTTP2,              // of these: began like HTTP/2
  WEIR_STAT_NO_STORAGE,         // segments of sockets whose state could not be allocated
  WEIR_STAT_LISTENERS_RENAMED,  // another process listens where one did
  WEIR_STATS,
};
