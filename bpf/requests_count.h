#pragma once
// From an answered or aborted exchange to its cell: one addition, exact whatever happens. Included
// by requests.bpf.c alone.

#include "bpf/requests_state.h"

struct weir_done {
  __u64 cgroup, latency_ns, request_bytes, response_bytes;
  __u32 route, n;
  __u16 port, status;
  __u8 method, role, proto, what;
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
                              .proto = d->proto,
                              .octave = bucket >> 6,
                              .what = d->what};
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
  if (!cell && d->proto != WEIR_PROTO_HTTP1) return 0;  // it is in `stats`
  if (!cell) {
    const __u32 role = d->role == WEIR_ROLE_CLIENT;
    const __u32 at = (d->what == WEIR_FIRST) * WEIR_FOLD_HALF +
                     (role * WEIR_CLASSES + weir_status_class(d->status)) * WEIR_OCTAVES +
                     (bucket >> 6);
    note(WEIR_STAT_CELLS_FOLDED);
    map = bpf_map_lookup_elem(&fold, &zero);
    if (map) cell = bpf_map_lookup_elem(map, &at);
  }
  if (!cell) return 0;
  if (d->request_bytes) __sync_fetch_and_add(&cell->request_bytes, d->request_bytes);
  if (d->response_bytes) __sync_fetch_and_add(&cell->response_bytes, d->response_bytes);
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
                        .role = c->role,
                        .proto = WEIR_PROTO_HTTP1,
                        .what = c->last_ns == c->first_ns ? WEIR_WHOLE : WEIR_LAST};
  if (n || d.request_bytes || d.response_bytes) weir_count(&d);
  if (!n || d.what == WEIR_WHOLE) return;
  d.what = WEIR_FIRST;
  d.latency_ns = distance(c->now.t0, c->first_ns);
  d.request_bytes = d.response_bytes = 0;
  weir_count(&d);
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
