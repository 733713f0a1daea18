#include "common/worker.h"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace weir {

struct Worker::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> jobs;
  size_t capacity = 0;
  bool stopping = false;
  std::thread thread;

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return stopping || !jobs.empty(); });
      if (stopping) return;
      auto job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      job();
      job = nullptr;  // what it captured dies here, not under the lock
      lock.lock();
    }
  }
};

Worker::Worker(const char* thread_name, size_t capacity) : state_(std::make_unique<State>()) {
  state_->capacity = capacity;
  state_->thread = std::thread([state = state_.get()] { state->run(); });
  // The kernel keeps 15 characters; a name is a courtesy, so a failure is nobody's problem.
  pthread_setname_np(state_->thread.native_handle(),
                     std::string(thread_name).substr(0, 15).c_str());
}

Worker::~Worker() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_one();
  state_->thread.join();
}

bool Worker::post(std::function<void()> job) {
  const std::scoped_lock lock(state_->mutex);
  if (state_->stopping || state_->jobs.size() >= state_->capacity) return false;
  state_->jobs.push_back(std::move(job));
  state_->changed.notify_one();
  return true;
}

}  // namespace weir
