#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "flash_io/backend.h"
#include "flash_io/batch_queue.h"
#include "flash_io/tuning.h"

namespace flash_io {

/// Persistent threads that call pread: needs no kernel feature, so it works everywhere. At most one
/// request per thread is in flight, and no more bytes than the tuning allows.
class PoolBackend final : public Backend {
 public:
  /// Starts `tuning.threads` (>= 1) threads; throws std::system_error when they cannot be had.
  PoolBackend(const BackendContext& context, const Tuning& tuning);
  ~PoolBackend() override;

  std::string_view name() const override { return "pool"; }
  void submit(std::shared_ptr<Batch> batch) override;

 private:
  void work();
  void read(std::shared_ptr<Batch> batch, std::size_t index);
  void stop();
  void enter_flight(std::uint64_t bytes, std::uint64_t most_bytes);
  void leave_flight(std::uint64_t bytes);

  const BackendContext context_;
  const std::uint64_t max_bytes_in_flight_;
  std::mutex mutex_;
  std::condition_variable wake_;
  BatchQueue queue_;  // batches that may have unclaimed requests
  bool stopping_ = false;
  std::mutex flight_mutex_;
  std::condition_variable room_made_;
  unsigned waiting_for_room_ = 0;
  std::uint64_t bytes_in_flight_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace flash_io
