#include "flash_io/reader.h"

#include <new>
#include <system_error>
#include <utility>

#include "flash_io/pool_backend.h"
#include "flash_io/uring_backend.h"

namespace flash_io {

std::unique_ptr<Reader> Reader::open(const std::string& path, OpenOptions options,
                                     Failure& failure) {
  std::unique_ptr<Reader> reader(new Reader());
  // The kernel outlives everything, hence the empty deleter.
  reader->calls_ = options.calls ? std::move(options.calls)
                                 : std::shared_ptr<SystemCalls>(&SystemCalls::kernel(),
                                                                [](SystemCalls*) {});
  try {
    reader->file_ = File::open(path, options.direct_io, *reader->calls_, failure);
    if (!reader->file_ || !reader->start_backend(options, failure)) return nullptr;
  } catch (const std::system_error& error) {
    failure = {FailureCode::kNoResources, error.code().value(), 0, 0,
               "the reader's threads could not be started"};
    return nullptr;
  } catch (const std::bad_alloc&) {
    failure = {FailureCode::kNoResources, 0, 0, 0, "memory for the reader could not be had"};
    return nullptr;
  }
  return reader;
}

bool Reader::start_backend(const OpenOptions& options, Failure& failure) {
  const BackendContext context{*file_, *calls_, counters_};
  if (options.make_backend) {
    backend_ = options.make_backend(context);
    return true;
  }
  // Buffered reads through a ring end up on kernel threads: no better than a pool of our own.
  const bool wants_uring = options.backend == BackendChoice::kUring ||
                           (options.backend == BackendChoice::kAuto && file_->direct_io());
  if (wants_uring) {
    backend_ = UringBackend::start(context, options.tuning, failure);
    if (backend_) return true;
    const bool may_step_down = options.backend == BackendChoice::kAuto &&
                               failure.code == FailureCode::kBackendUnsupported;
    if (!may_step_down) return false;
    uring_refusal_ = std::exchange(failure, {});
  }
  backend_ = std::make_unique<PoolBackend>(context, options.tuning);
  return true;
}

Reader::~Reader() {
  if (file_) close();
}

std::shared_ptr<Batch> Reader::submit(std::vector<ReadRequest> requests, Batch::Settle settle) {
  counters_.batches.fetch_add(1, std::memory_order_relaxed);
  const std::size_t request_bytes = requests.capacity() * sizeof(ReadRequest);
  counters_.request_memory_bytes.fetch_add(request_bytes, std::memory_order_relaxed);
  auto batch = std::make_shared<Batch>(
      std::move(requests), [this, request_bytes, settle = std::move(settle)](Batch& settled) {
        check_unchanged(settled);
        counters_.request_memory_bytes.fetch_sub(request_bytes, std::memory_order_relaxed);
        settle(settled);
      });
  backend_->submit(batch);
  return batch;
}

void Reader::check_unchanged(Batch& settled) const {
  Failure change;
  if (!settled.failure() && !settled.cancelled() && !file_->unchanged(*calls_, change)) {
    settled.set_failure(std::move(change));
  }
}

void Reader::close() {
  if (backend_) closed_backend_name_ = backend_->name();
  backend_.reset();
  file_->close();
}

std::string_view Reader::backend_name() const {
  return backend_ ? backend_->name() : std::string_view(closed_backend_name_);
}

std::optional<Failure> Reader::uring_refusal() const {
  const int lost_errno = backend_ ? backend_->lost_errno() : 0;
  if (lost_errno == 0) return uring_refusal_;
  return Failure{FailureCode::kBackendUnsupported, lost_errno, 0, 0,
                 "the kernel stopped serving io_uring"};
}

std::size_t Reader::memory_bytes() const {
  return (backend_ ? backend_->memory_bytes() : 0) +
         counters_.request_memory_bytes.load(std::memory_order_relaxed);
}

}  // namespace flash_io
