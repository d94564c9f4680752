// The process's compute threads. One set, shared by every caller (several Node environments may be loaded).
#ifndef NCHUNK_THREAD_POOL_H_
#define NCHUNK_THREAD_POOL_H_

#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace nchunk {

class ThreadPool {
 public:
  // Never destroyed: at process exit other threads may still be inside it.
  static ThreadPool& Instance();

  // Calls body(i) once for every i < count, on this thread and the workers, and returns when all calls have. Which thread
  // runs which i is not fixed, so bodies must not care. Runs on this thread alone when it is small, nested, or when
  // another caller has the workers (unless this thread is in a BackgroundScope, which waits for them).
  template <class Body>
  void ParallelFor(size_t count, const Body& body) {
    Run(count, [](const void* context, size_t i) { (*static_cast<const Body*>(context))(i); }, &body);
  }

  void SetThreads(int threads);
  int threads() const { return threads_.load(std::memory_order_relaxed); }

 private:
  using Function = void (*)(const void* context, size_t index);
  struct Job {
    Function function;
    const void* context;
    size_t count;
    std::atomic<size_t> next{0};
    std::atomic<int> helpers{0};  // workers inside; entered under mutex_
  };

  struct Worker {
    std::thread thread;
    std::atomic<int> cpu{-1};  // where it waits for work; -1: not known
  };

  ThreadPool();
  void Run(size_t count, Function function, const void* context);
  static void Drain(Job& job);
  void WorkerLoop(Worker& self, uint64_t seen);
  void StopWorkers();
  void StartWorkers();
  void KeepApart();

  std::mutex region_;  // held by the one caller whose job the workers serve
  std::atomic<int> threads_;
  cpu_set_t allowed_;  // CPUs of the process when the pool was made
  std::vector<std::unique_ptr<Worker>> workers_;  // guarded by region_

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  Job* job_ = nullptr;                // guarded by mutex_
  std::atomic<uint64_t> epoch_{0};    // counts jobs; written under mutex_
  bool stopping_ = false;             // guarded by mutex_
};

}  // namespace nchunk

#endif  // NCHUNK_THREAD_POOL_H_
