#pragma once

#include <cstdint>
#include <memory>

#include "flash_io/backend.h"
#include "flash_io/batch.h"
#include "flash_io/request.h"

namespace flash_io {

/// A request claimed from its batch until it is ended there, with the reader's counters kept on the
/// way: the same for every backend. Ask `progress()` what to transfer, hand each result to
/// `on_result`; after it returned an end, the object is spent.
class ClaimedRequest {
 public:
  enum class Next : std::uint8_t { kTransfer, kBackOff, kEnded };

  ClaimedRequest(std::shared_ptr<Batch> batch, std::size_t index, const BackendContext& context);

  /// True once its batch was cancelled or failed; it stays so.
  bool is_stopped() const { return batch_->stopped(); }
  /// Ends the request untransferred when its batch was cancelled or failed: true when it did.
  bool abandon_if_stopped();
  Next on_result(std::int64_t result);
  /// Ends the request without another attempt.
  void fail(Failure failure);

  /// Requests of its batch that have not ended, this one included.
  std::size_t remaining_in_batch() const { return batch_->remaining(); }
  std::uint64_t most_bytes_in_flight() const { return batch_->most_bytes_in_flight(); }
  const ReadProgress& progress() const { return progress_; }
  std::uint32_t length_bytes() const { return length_bytes_; }

 private:
  void count_transfer();

  std::shared_ptr<Batch> batch_;
  const BackendContext* context_;
  ReadProgress progress_;
  std::uint32_t length_bytes_;
};

}  // namespace flash_io
