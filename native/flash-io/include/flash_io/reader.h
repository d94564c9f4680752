#pragma once

#include <memory>
#include <string>
#include <vector>

#include "flash_io/backend.h"
#include "flash_io/counters.h"
#include "flash_io/file.h"

namespace flash_io {

struct OpenOptions {
  DirectIo direct_io = DirectIo::kOptional;
  unsigned threads = 6;
  /// Where system calls go; null means the kernel. Shared because threads outlive the call.
  std::shared_ptr<SystemCalls> calls;
};

/// An open file with a backend of its own. All methods may be called from any thread, except that
/// nothing may run concurrently with `close` or the destructor.
class Reader {
 public:
  /// Returns null and fills `failure` when the file cannot be read as asked. May block on the device.
  static std::unique_ptr<Reader> open(const std::string& path, OpenOptions options,
                                      Failure& failure);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  /// Starts the reads and returns at once. Destinations must stay valid until `settle` ran, which
  /// happens exactly once, on another thread or on the one that cancels. The file is checked for
  /// change before a success is reported. Requests must be aligned and within the file.
  std::shared_ptr<Batch> submit(std::vector<ReadRequest> requests, Batch::Settle settle);

  /// Finishes every submitted batch, ends the threads and closes the file. Idempotent.
  void close();

  const File& file() const { return *file_; }
  const Counters& counters() const { return counters_; }
  std::string_view backend_name() const { return backend_name_; }

 private:
  Reader() = default;

  std::shared_ptr<SystemCalls> calls_;
  Counters counters_;
  std::unique_ptr<File> file_;
  std::unique_ptr<Backend> backend_;
  std::string backend_name_;
};

}  // namespace flash_io
