#include "thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <functional>

#include "nchunk/kernels.h"

namespace nchunk {
namespace {

// How often a waiting thread looks before it sleeps: some tens of microseconds, about what a wake-up costs.
constexpr int kSpins = 1000;

// One that waits for threads that are at work yields as often: they may be waiting for its core. One that waits for work does not: on
// recent kernels whoever yields gives up its turn for milliseconds, and the work would come in between.
constexpr int kSpinsBeforeYield = 32;
enum class Wait { kForWork, kForThreads };

thread_local bool t_inside = false;      // on a worker, or running a job
thread_local bool t_background = false;  // in a BackgroundScope

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks for a while, whether or not it comes.
template <Wait kWait, class Condition>
void SpinUntil(const Condition& condition) {
  for (int i = 1; i <= kSpins && !condition(); ++i) {
    if (kWait == Wait::kForThreads && i % kSpinsBeforeYield == 0) {
      sched_yield();
    } else {
      Pause();
    }
  }
}

}  // namespace

ThreadPool& ThreadPool::Instance() {
  static ThreadPool* const pool = new ThreadPool();
  return *pool;
}

ThreadPool::ThreadPool() {
  CPU_ZERO(&allowed_);
  const bool known = sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0;
  const int cpus = known ? CPU_COUNT(&allowed_) : static_cast<int>(std::thread::hardware_concurrency());
  threads_.store(std::clamp(cpus, 1, kMaxThreads), std::memory_order_relaxed);
}

void ThreadPool::SetThreads(int threads) {
  const std::lock_guard<std::mutex> region(region_);
  StopWorkers();
  threads_.store(std::clamp(threads, 1, kMaxThreads), std::memory_order_relaxed);
}

void ThreadPool::StopWorkers() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    epoch_.fetch_add(1);
  }
  wake_.notify_all();
  for (const auto& worker : workers_) worker->thread.join();
  workers_.clear();
  stopping_ = false;
}

void ThreadPool::StartWorkers() {
  while (static_cast<int>(workers_.size()) < threads() - 1) {
    Worker& worker = *workers_.emplace_back(std::make_unique<Worker>());
    worker.thread = std::thread(&ThreadPool::WorkerLoop, this, std::ref(worker), epoch_.load());
  }
}

// A worker that is on this thread's CPU would wake up there, behind this thread, and get on only when the system next balances its
// load, milliseconds later: with few CPUs, Linux looks for no idle one when half of them are busy.
void ThreadPool::KeepApart() {
  const int here = sched_getcpu();
  for (const auto& worker : workers_) {
    if (here < 0 || worker->cpu.load(std::memory_order_relaxed) != here) continue;
    cpu_set_t others = allowed_;
    CPU_CLR(here, &others);
    // Refused where the process may not run there any more: then it stays.
    if (CPU_COUNT(&others) > 0) pthread_setaffinity_np(worker->thread.native_handle(), sizeof(others), &others);
    worker->cpu.store(-1, std::memory_order_relaxed);
  }
}

void ThreadPool::Drain(Job& job) {
  for (;;) {
    const size_t index = job.next.fetch_add(1, std::memory_order_relaxed);
    if (index >= job.count) return;
    job.function(job.context, index);
  }
}

void ThreadPool::WorkerLoop(Worker& self, uint64_t seen) {
  t_inside = true;
  for (;;) {
    self.cpu.store(sched_getcpu(), std::memory_order_relaxed);
    SpinUntil<Wait::kForWork>([this, seen] { return epoch_.load(std::memory_order_acquire) != seen; });
    Job* job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return epoch_.load(std::memory_order_relaxed) != seen; });
      seen = epoch_.load(std::memory_order_relaxed);
      if (stopping_) return;
      job = job_;  // null when this thread woke after the work was done
      if (job != nullptr) job->helpers.fetch_add(1, std::memory_order_relaxed);
    }
    if (job == nullptr) continue;
    Drain(*job);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (job->helpers.fetch_sub(1, std::memory_order_release) == 1) done_.notify_all();
  }
}

void ThreadPool::Run(size_t count, Function function, const void* context) {
  const auto alone = [&] {
    for (size_t i = 0; i < count; ++i) function(context, i);
  };
  if (count <= 1 || threads() == 1 || t_inside) return alone();
  std::unique_lock<std::mutex> region(region_, std::defer_lock);
  if (t_background) {
    region.lock();
  } else if (!region.try_lock()) {
    return alone();
  }
  StartWorkers();
  KeepApart();
  Job job{function, context, count};
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    epoch_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  t_inside = true;
  Drain(job);
  t_inside = false;
  // Every index is taken. Workers that have not come by now are not waited for: a thread that the system does not
  // schedule must not hold up a job that others finished.
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    job_ = nullptr;
  }
  SpinUntil<Wait::kForThreads>([&job] { return job.helpers.load(std::memory_order_acquire) == 0; });
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [&] { return job.helpers.load(std::memory_order_acquire) == 0; });
}

BackgroundScope::BackgroundScope() : previous_(t_background) { t_background = true; }
BackgroundScope::~BackgroundScope() { t_background = previous_; }

void SetThreads(int threads) { ThreadPool::Instance().SetThreads(threads); }
int Threads() { return ThreadPool::Instance().threads(); }

}  // namespace nchunk
