#include "flash_io/pool_backend.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace flash_io {
namespace {

/// Signals of the process are for its own threads: here they would only interrupt reads.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

PoolBackend::PoolBackend(const File& file, SystemCalls& calls, Counters& counters, unsigned threads)
    : file_(file), calls_(calls), counters_(counters) {
  const SignalsBlocked inherited_by_threads;
  threads_.reserve(threads);
  try {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (...) {
    stop();
    throw;
  }
}

PoolBackend::~PoolBackend() { stop(); }

void PoolBackend::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void PoolBackend::submit(std::shared_ptr<Batch> batch) {
  const std::size_t useful_threads = std::min(batch->size(), threads_.size());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(batch));
  }
  if (useful_threads == threads_.size()) {
    wake_.notify_all();
  } else {
    for (std::size_t i = 0; i < useful_threads; ++i) wake_.notify_one();
  }
}

void PoolBackend::work() {
  pthread_setname_np(pthread_self(), "flash-io");
  for (;;) {
    std::shared_ptr<Batch> batch;
    std::size_t index = Batch::kNone;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      while (!queue_.empty() && index == Batch::kNone) {
        batch = queue_.front();
        index = batch->claim();
        if (index == Batch::kNone) queue_.pop_front();
      }
      if (index == Batch::kNone && stopping_) return;
    }
    for (; index != Batch::kNone; index = batch->claim()) read(*batch, index);
  }
}

void PoolBackend::read(Batch& batch, std::size_t index) {
  using Step = ReadProgress::Step;
  const ReadRequest& request = batch.request(index);
  ReadProgress progress(request, file_.size_bytes(), file_.alignment_bytes());
  counters_.bytes_in_flight.fetch_add(request.length_bytes, std::memory_order_relaxed);
  Step step = Step::kAgain;
  while (step == Step::kAgain || step == Step::kBackOff) {
    if (step == Step::kBackOff) {
      std::this_thread::sleep_for(std::chrono::nanoseconds(progress.back_off_ns()));
    }
    step = progress.on_result(calls_.pread(file_.fd(), progress.destination(),
                                           progress.length_bytes(), progress.offset_bytes()));
  }
  counters_.bytes_in_flight.fetch_sub(request.length_bytes, std::memory_order_relaxed);
  counters_.requests.fetch_add(1, std::memory_order_relaxed);
  counters_.bytes_read.fetch_add(progress.transferred_bytes(), std::memory_order_relaxed);
  counters_.retries.fetch_add(progress.retries(), std::memory_order_relaxed);
  if (step == Step::kDone) {
    batch.succeed(progress.transferred_bytes());
    return;
  }
  counters_.errors.fetch_add(1, std::memory_order_relaxed);
  Failure failure = progress.failure();
  Failure change;
  if (failure.code == FailureCode::kTruncated && !file_.unchanged(calls_, change)) {
    change.offset_bytes = failure.offset_bytes;
    change.length_bytes = failure.length_bytes;
    failure = std::move(change);
  }
  batch.fail(std::move(failure));
}

}  // namespace flash_io
