#include "flash_io/reader.h"

#include <new>
#include <system_error>
#include <utility>

#include "flash_io/pool_backend.h"

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
    if (!reader->file_) return nullptr;
    reader->backend_ = std::make_unique<PoolBackend>(*reader->file_, *reader->calls_,
                                                     reader->counters_, options.threads);
  } catch (const std::system_error& error) {
    failure = {FailureCode::kNoResources, error.code().value(), 0, 0,
               "the reader's threads could not be started"};
    return nullptr;
  } catch (const std::bad_alloc&) {
    failure = {FailureCode::kNoResources, 0, 0, 0, "memory for the reader could not be had"};
    return nullptr;
  }
  reader->backend_name_ = reader->backend_->name();
  return reader;
}

Reader::~Reader() {
  if (file_) close();
}

std::shared_ptr<Batch> Reader::submit(std::vector<ReadRequest> requests, Batch::Settle settle) {
  counters_.batches.fetch_add(1, std::memory_order_relaxed);
  auto batch = std::make_shared<Batch>(
      std::move(requests), [this, settle = std::move(settle)](Batch& settled) {
        Failure change;
        if (!settled.failure() && !settled.cancelled() && !file_->unchanged(*calls_, change)) {
          settled.set_failure(std::move(change));
        }
        settle(settled);
      });
  backend_->submit(batch);
  return batch;
}

void Reader::close() {
  backend_.reset();
  file_->close();
}

}  // namespace flash_io
