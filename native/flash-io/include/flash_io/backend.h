#pragma once

#include <memory>
#include <string_view>

#include "flash_io/batch.h"

namespace flash_io {

/// A way to carry out batches on one open file. `submit` returns at once and may be called from any
/// thread; requests of earlier batches start first. Destruction finishes what was submitted.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  virtual void submit(std::shared_ptr<Batch> batch) = 0;
};

}  // namespace flash_io
