// HTTP/1.x requests, timed and counted at the socket. Every TCP segment of every cgroup passes
// here, in softirq (ingress) or under the socket lock (egress); the verdict is always "pass".
//
// State of a connection lives in its socket's storage and dies with it. Per connection the request
// direction alone writes `head`, the response direction `tail`; whoever ends an exchange takes
// `open` first. Egress can be interrupted by ingress on the same CPU, so there is no per-CPU
// scratch and every add is atomic. The rules are docs/requests.md.

#include "bpf/requests_http.h"

char LICENSE[] SEC("license") = "GPL";

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
      .t0 = s->now, .seq = s->seq, .len = s->end - s->off, .method = head >> 16};
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

// The first segment of a connection: did its first request meet the listener? It may be the same
// one again (turned away by a full queue), or the one behind it.
__noinline int weir_adopt_early(struct __sk_buff* skb, struct weir_conn* c,
                                struct weir_segment* s) {
  if (!c || !s) return 0;
  struct weir_early_key key = {};
  if (early_key(skb, s, c->cgroup, s->dir == IN, &key)) return 0;
  struct weir_early* e = bpf_map_lookup_elem(&early, &key);
  if (!e) return 0;
  // Left over from an older connection of the same addresses, unless this one just went on.
  const __u32 ahead = (s->dir == IN ? s->seq : s->ack) - e->seq;
  if (ahead < EARLY_WINDOW) {
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
  s->seq = bpf_ntohl(*(__be32*)(tcp + 4)) + ((tcp[13] >> 1) & 1);  // SYN has a number of its own
  s->ack = bpf_ntohl(*(__be32*)(tcp + 8));
  return 1;
}

static __always_inline void observe(struct __sk_buff* skb, __u32 dir) {
  struct bpf_sock* sk = skb->sk;
  struct weir_segment s = {.dir = dir};
  if (!sk) return;
  sk = bpf_sk_fullsock(sk);
  if (!sk || (sk->protocol != TCP_PROTOCOL && !any_protocol) || !read_headers(skb, &s)) return;
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
    weir_adopt_early(skb, c, &s);
  }
  if (!weir_take_new_bytes(&c->flow[dir], &s)) return;
  if (c->role == WEIR_ROLE_UNKNOWN) weir_first_segments(skb, c, &s);
  if (c->role == WEIR_ROLE_UNKNOWN || c->opaque) return;
  if (dir == request_dir(c))
    request_segment(skb, c, &s);
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
  struct weir_done d = {.cgroup = c->cgroup,
                        .port = c->port,
                        .status = WEIR_STATUS_ABORTED,
                        .role = c->role,
                        .proto = WEIR_PROTO_HTTP1,
                        .n = 1};
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

static __always_inline int same_listener(const struct weir_listener* a,
                                         const struct weir_listener* b) {
  const __u64* x = (const __u64*)a->comm;
  const __u64* y = (const __u64*)b->comm;
  return a->tgid == b->tgid && x[0] == y[0] && x[1] == y[1];
}

SEC("tp_btf/inet_sock_set_state")

int BPF_PROG(weir_socket_state, struct sock* sk, int oldstate, int newstate) {
  if (newstate == STATE_LISTEN) {
    const struct weir_listener_key key = {.cgroup = sk->sk_cgrp_data.cgroup->kn->id,
                                          .port = sk->__sk_common.skc_num};
    struct weir_listener value = {.tgid = bpf_get_current_pid_tgid() >> 32};
    bpf_get_current_comm(value.comm, sizeof value.comm);
    const struct weir_listener* before = bpf_map_lookup_elem(&listeners, &key);
    if (before && !same_listener(before, &value)) note(WEIR_STAT_LISTENERS_RENAMED);
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
