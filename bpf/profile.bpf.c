// CPU profiles: runs at each cpu-clock tick of each CPU, takes the kernel and the user stack of
// whatever runs there, and sends both as one record.
//
// Stacks go by the ring buffer, 8 bytes a frame: hash maps of stacks lose to collisions, and most
// stacks are distinct anyway. User stacks are walked by frame pointers (bpf_get_stack); table
// unwinding will replace that one call and set the stop code.
// A ring wakes its reader only when a process image is new, so that its mappings are read while it
// lives, or when the ring is half full; otherwise the daemon reads it once a second.

#include "bpf/weir_core.h"

#include <linux/bpf_perf_event.h>

#include "bpf/profile.h"

char LICENSE[] SEC("license") = "GPL";

#define PF_KTHREAD 0x00200000
#define STACK_BYTES (WEIR_PROFILE_MAX_FRAMES * sizeof(__u64))

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);  // the loader sets it by CPUs and rate
} records SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, WEIR_PROFILE_COUNTERS);
  __type(key, __u32);
  __type(value, __u64);
} counters SEC(".maps");

// One record under construction per CPU: cpu-clock ticks of one CPU do not nest.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weir_profile_record);
} scratch SEC(".maps");

// Process images the daemon was already woken for.
struct image {
  __u32 pid;
  __u32 exec_id;
  __u64 start_ns;
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, struct image);
  __type(value, __u8);
} seen SEC(".maps");

_Static_assert(__builtin_offsetof(struct weir_profile_record, pcs) == WEIR_PROFILE_HEAD_BYTES,
               "head size");

static __always_inline void count(__u32 which) {
  __u64* cell = bpf_map_lookup_elem(&counters, &which);
  if (cell) *cell += 1;  // per CPU
}

static __always_inline __u64 wakeup_for(const struct weir_profile_record* record) {
  struct image image = {record->pid, (__u32)record->exec_id, record->start_ns};
  if (!bpf_map_lookup_elem(&seen, &image)) {
    __u8 one = 1;
    bpf_map_update_elem(&seen, &image, &one, BPF_ANY);
    return BPF_RB_FORCE_WAKEUP;
  }
  __u64 waiting = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA);
  __u64 size = bpf_ringbuf_query(&records, BPF_RB_RING_SIZE);
  return waiting > size / 2 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

SEC("perf_event")

int sample(struct bpf_perf_event_data* ctx) {
  __u64 pid_tid = bpf_get_current_pid_tgid();
  if (pid_tid >> 32 == 0) return 0;  // idle

  __u32 zero = 0;
  struct weir_profile_record* record = bpf_map_lookup_elem(&scratch, &zero);
  if (!record) return 0;

  struct task_struct* task = (void*)bpf_get_current_task();
  struct task_struct* leader = BPF_CORE_READ(task, group_leader);
  record->time_ns = bpf_ktime_get_ns();
  record->period_ns = ctx->sample_period;
  record->cgroup_id = bpf_get_current_cgroup_id();
  record->start_ns = BPF_CORE_READ(leader, start_boottime);
  record->exec_id = BPF_CORE_READ(leader, self_exec_id);
  record->pid = pid_tid >> 32;
  record->tid = (__u32)pid_tid;
  record->kernel_thread = (BPF_CORE_READ(task, flags) & PF_KTHREAD) != 0;
  record->reserved = 0;
  bpf_core_read(record->comm, sizeof record->comm, &leader->comm);

  // Negative means there is no such stack. The second stack is written right behind the first;
  // the masks and bounds say to the verifier what the kernel already guarantees.
  long kernel_bytes = bpf_get_stack(ctx, record->pcs, STACK_BYTES, 0);
  if (kernel_bytes < 0) kernel_bytes = 0;
  if (kernel_bytes > (long)STACK_BYTES) kernel_bytes = STACK_BYTES;
  long user_bytes = 0;
  if (!record->kernel_thread) {
    user_bytes =
        bpf_get_stack(ctx, (char*)record->pcs + kernel_bytes, STACK_BYTES, BPF_F_USER_STACK);
    if (user_bytes < 0) user_bytes = 0;
    if (user_bytes > (long)STACK_BYTES) user_bytes = STACK_BYTES;
  }
  record->kernel_n = (__u64)kernel_bytes / sizeof(__u64);
  record->user_n = (__u64)user_bytes / sizeof(__u64);
  record->stop = WEIR_PROFILE_STOP_UNKNOWN;
  if (user_bytes == 0 && !record->kernel_thread) record->stop = WEIR_PROFILE_STOP_NO_USER;
  if (record->user_n == WEIR_PROFILE_MAX_FRAMES) record->stop = WEIR_PROFILE_STOP_DEPTH;

  __u64 size = WEIR_PROFILE_HEAD_BYTES + (__u64)kernel_bytes + (__u64)user_bytes;
  if (size > sizeof *record) return 0;  // cannot be
  long failed = bpf_ringbuf_output(&records, record, size, wakeup_for(record));
  count(failed ? WEIR_PROFILE_LOST : WEIR_PROFILE_SAMPLES);
  return 0;
}
