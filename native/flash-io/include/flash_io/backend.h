#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "flash_io/batch.h"
#include "flash_io/counters.h"
#include "flash_io/file.h"
#include "flash_io/system_calls.h"

namespace flash_io {

/// What every backend works with. All of it outlives the backend.
struct BackendContext {
  const File& file;
  SystemCalls& calls;
  Counters& counters;
};

/// A way to carry out batches on one open file. `submit` returns at once and may be called from any
/// thread; requests of earlier batches start first. Destruction finishes what was submitted.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  virtual void submit(std::shared_ptr<Batch> batch) = 0;
  /// Batches one after the other, which the backend may take up together. They are moved from.
  virtual void submit_all(std::span<std::shared_ptr<Batch>> batches) {
    for (std::shared_ptr<Batch>& batch : batches) submit(std::move(batch));
  }
  /// The errno that made this backend hand its work to a lower one since it was started, else 0.
  virtual int lost_errno() const { return 0; }
  /// Native memory that the backend holds: rings and the like, thread stacks not counted.
  virtual std::size_t memory_bytes() const { return 0; }
};

}  // namespace flash_io
