#pragma once
// The kernel types our programs touch, and nothing more: CO-RE relocates every field by name at
// load, so this header replaces a generated vmlinux.h of 3 MB. Add a field when a program needs it.
//
// Included first by every *.bpf.c. UAPI types (__sk_buff, bpf_sock ...) come from linux/bpf.h.

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
  __u64 id;
};

struct cgroup {
  struct kernfs_node* kn;
};

struct sock_cgroup_data {
  struct cgroup* cgroup;
};

struct sock_common {
  __u16 skc_num;  // local port, host order
  __u16 skc_family;
};

struct sock {
  struct sock_common __sk_common;
  struct sock_cgroup_data sk_cgrp_data;
  __u16 sk_protocol;
};

struct task_struct {
  unsigned int flags;
  char comm[16];
  __u64 start_boottime;
  __u64 self_exec_id;
  struct task_struct* group_leader;
};

struct bpf_map;

struct bpf_iter__bpf_sk_storage_map {
  struct bpf_iter_meta* meta;
  struct bpf_map* map;
  struct sock* sk;
  void* value;
};

#pragma clang attribute pop
