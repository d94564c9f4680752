#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "flash_io/batch.h"

namespace flash_io {

/// First in, first out, in memory that it keeps: a deque gives blocks back as it moves on.
class BatchQueue {
 public:
  bool empty() const { return first_ == batches_.size(); }
  std::shared_ptr<Batch>& front() { return batches_[first_]; }

  void push_back(std::shared_ptr<Batch> batch) {
    // A queue that is never empty must not grow for ever.
    if (first_ > batches_.size() / 2) {
      batches_.erase(batches_.begin(), batches_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
    batches_.push_back(std::move(batch));
  }
  void push_front(std::shared_ptr<Batch> batch) {
    if (first_ > 0) {
      batches_[--first_] = std::move(batch);
    } else {
      batches_.insert(batches_.begin(), std::move(batch));
    }
  }
  void pop_front() {
    batches_[first_++].reset();
    if (empty()) clear();
  }
  void clear() {
    batches_.clear();
    first_ = 0;
  }
  /// Takes out all, first to last.
  template <typename Take>
  void drain(Take take) {
    for (; !empty(); pop_front()) take(std::move(front()));
  }

 private:
  std::vector<std::shared_ptr<Batch>> batches_;
  std::size_t first_ = 0;
};

}  // namespace flash_io
