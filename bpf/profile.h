#pragma once
// What bpf/profile.bpf.c hands to daemon/profiler: one record per CPU sample. Plain C, shared by
// both; every field is native and aligned, the kernel program fills all of them.

#include <linux/types.h>

#define WEIR_PROFILE_MAX_FRAMES 127  // per stack: the kernel's own limit (perf_event_max_stack)

// Why a user stack ends where it ends. Wire-free, but the numbers are those of the unwinder's
// design so that table unwinding adds its codes without renumbering.
enum weir_profile_stop {
  WEIR_PROFILE_STOP_UNKNOWN = 0,  // frame pointers: the chain ended; whether at the root, who knows
  WEIR_PROFILE_STOP_DEPTH = 10,   // as deep as we look
  WEIR_PROFILE_STOP_NO_USER = 13,  // a user process whose user stack could not be read at all
};

struct weir_profile_record {
  __u64 time_ns;    // CLOCK_MONOTONIC
  __u64 period_ns;  // what this sample weighs
  __u64 cgroup_id;  // cgroup v2
  __u64 start_ns;   // of the process, CLOCK_BOOTTIME ) together with pid: one process image,
  __u64 exec_id;    // how often it called exec       ) whatever became of the pid since
  __u32 pid;        // process; never 0 (idle is not sampled)
  __u32 tid;
  __u16 kernel_n;  // frames
  __u16 user_n;
  __u8 stop;  // enum weir_profile_stop
  __u8 kernel_thread;
  __u16 reserved;
  char comm[16];                           // of the process's first thread, NUL-padded
  __u64 pcs[2 * WEIR_PROFILE_MAX_FRAMES];  // kernel_n kernel, then user_n user; leaf first
};

// The bytes of a record before its frames; a record is sent only as long as it is.
#define WEIR_PROFILE_HEAD_BYTES 72

// Per-CPU counters of the kernel program (map `counters`).
enum weir_profile_counter {
  WEIR_PROFILE_SAMPLES = 0,  // handed over
  WEIR_PROFILE_LOST = 1,     // the ring was full
  WEIR_PROFILE_COUNTERS = 2,
};
