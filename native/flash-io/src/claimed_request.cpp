#include "claimed_request.h"

#include <utility>

namespace flash_io {

ClaimedRequest::ClaimedRequest(std::shared_ptr<Batch> batch, std::size_t index,
                               const BackendContext& context)
    : batch_(std::move(batch)),
      context_(&context),
      progress_(batch_->request(index), context.file.size_bytes(), context.file.alignment_bytes()),
      length_bytes_(batch_->request(index).length_bytes) {}

void ClaimedRequest::count_transfer() {
  Counters& counters = context_->counters;
  counters.bytes_read.fetch_add(progress_.transferred_bytes(), std::memory_order_relaxed);
  counters.retries.fetch_add(progress_.retries(), std::memory_order_relaxed);
}

bool ClaimedRequest::abandon_if_stopped() {
  if (!is_stopped()) return false;
  count_transfer();
  batch_->abandon(progress_.transferred_bytes());
  return true;
}

ClaimedRequest::Next ClaimedRequest::on_result(std::int64_t result) {
  switch (progress_.on_result(result)) {
    case ReadProgress::Step::kDone:
      count_transfer();
      context_->counters.requests.fetch_add(1, std::memory_order_relaxed);
      batch_->succeed(progress_.transferred_bytes());
      return Next::kEnded;
    case ReadProgress::Step::kFailed:
      fail(progress_.failure());
      return Next::kEnded;
    case ReadProgress::Step::kAgain:
      return abandon_if_stopped() ? Next::kEnded : Next::kTransfer;
    case ReadProgress::Step::kBackOff:
      return abandon_if_stopped() ? Next::kEnded : Next::kBackOff;
  }
  return Next::kEnded;
}

void ClaimedRequest::fail(Failure failure) {
  count_transfer();
  context_->counters.requests.fetch_add(1, std::memory_order_relaxed);
  context_->counters.errors.fetch_add(1, std::memory_order_relaxed);
  Failure change;
  if (failure.code == FailureCode::kTruncated &&
      !context_->file.unchanged(context_->calls, change)) {
    change.offset_bytes = failure.offset_bytes;
    change.length_bytes = failure.length_bytes;
    failure = std::move(change);
  }
  batch_->fail(std::move(failure));
}

}  // namespace flash_io
