#pragma once
// Loop: one wait call for descriptors, ZeroMQ sockets, timers and signals (zmq_poll underneath).
//
// Owner: a thread's main function. Thread: only the owning thread calls anything, except stop(),
// which any thread may call. Promise: callbacks never run re-entrantly; one turn serves every ready
// thing once; a callback may add or remove entries, itself included. Cost: one poll per turn.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "common/result.h"

namespace weir {

class Loop {
 public:
  using Callback = std::function<void()>;
  using EntryId = uint64_t;

  static Result<std::unique_ptr<Loop>> create();
  Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  virtual ~Loop() = default;

  virtual EntryId on_readable(int fd, Callback callback) = 0;
  // Called again each turn while the socket has input (ZMQ_POLLIN is level-triggered here).
  virtual EntryId on_socket(void* zmq_socket, Callback callback) = 0;
  // A timer that is late by more than its period skips what it missed.
  virtual EntryId every(std::chrono::milliseconds period, Callback callback) = 0;
  virtual EntryId after(std::chrono::milliseconds delay, Callback callback) = 0;
  // Blocks the signal in the process (signalfd): call before starting threads.
  virtual Status on_signal(int signal_number, Callback callback) = 0;
  virtual void remove(EntryId id) = 0;

  virtual void run() = 0;                                     // until stop()
  virtual void turn(std::chrono::milliseconds max_wait) = 0;  // one turn, for tests and shutdown
  virtual void stop() = 0;                                    // thread-safe
};

// Keeps a signal that would end the process waiting for on_signal(): first of all in main().
void hold_signal(int signal_number);

}  // namespace weir
