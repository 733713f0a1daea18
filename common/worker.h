#pragma once
// Worker: one thread that runs jobs in order, for work that may block (map swaps, symbol tables).
//
// Owner: main(), outlives its users. Thread: post from any; jobs run on the worker's own thread.
// Promise: the destructor finishes the running job, discards the rest and joins. Jobs hand results
// back through a Mailbox. Bounded: post returns false when `capacity` jobs wait.

#include <cstddef>
#include <functional>
#include <memory>

namespace weir {

class Worker {
 public:
  explicit Worker(const char* thread_name, size_t capacity = 64);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] bool post(std::function<void()> job);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir
