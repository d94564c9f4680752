#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "flash_io/backend.h"
#include "flash_io/counters.h"
#include "flash_io/file.h"

namespace flash_io {

/// Persistent threads that call pread: needs no kernel feature, so it works everywhere. At most one
/// request per thread is in flight, which bounds the bytes in flight too.
class PoolBackend final : public Backend {
 public:
  /// Starts `threads` (>= 1) threads; throws std::system_error when they cannot be had. `file`,
  /// `calls` and `counters` must outlive the backend.
  PoolBackend(const File& file, SystemCalls& calls, Counters& counters, unsigned threads);
  ~PoolBackend() override;

  std::string_view name() const override { return "pool"; }
  void submit(std::shared_ptr<Batch> batch) override;

 private:
  void work();
  void read(Batch& batch, std::size_t index);
  void stop();

  const File& file_;
  SystemCalls& calls_;
  Counters& counters_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Batch>> queue_;  // batches that may have unclaimed requests
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace flash_io
