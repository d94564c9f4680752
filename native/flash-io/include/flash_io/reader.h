#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flash_io/backend.h"
#include "flash_io/counters.h"
#include "flash_io/file.h"
#include "flash_io/tuning.h"

namespace flash_io {

class SliceStream;

enum class BackendChoice : std::uint8_t { kAuto = 0, kUring = 1, kPool = 2 };

struct OpenOptions {
  DirectIo direct_io = DirectIo::kOptional;
  /// kAuto: io_uring with direct I/O, else the pool, else the pool with buffered reads (R4). The
  /// others: exactly that backend, or a kBackendUnsupported failure.
  BackendChoice backend = BackendChoice::kAuto;
  Tuning tuning;
  /// A backend of the caller's own, such as a test's fake; then `backend` is not looked at.
  std::function<std::unique_ptr<Backend>(const BackendContext&)> make_backend;
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
  /// The backend in use: "io_uring" or "pool". It can change once, see `uring_refusal`.
  std::string_view backend_name() const;
  /// Why a reader that might have used io_uring does not (or does not any more): kBackendUnsupported
  /// with an errno. Null when it does, or when nobody asked for it.
  std::optional<Failure> uring_refusal() const;
  /// Native memory that this reader holds now, requests under way included.
  std::size_t memory_bytes() const;

 private:
  friend class SliceStream;

  Reader() = default;
  /// Slices of a stream, which counts itself and checks the file by `check_unchanged` as they settle.
  void submit_slices(std::span<std::shared_ptr<Batch>> batches) { backend_->submit_all(batches); }
  /// For `settle`: turns a success on a file that was changed into a failure.
  void check_unchanged(Batch& settled) const;
  bool start_backend(const OpenOptions& options, Failure& failure);

  std::shared_ptr<SystemCalls> calls_;
  Counters counters_;
  std::unique_ptr<File> file_;
  std::unique_ptr<Backend> backend_;
  std::optional<Failure> uring_refusal_;
  std::string closed_backend_name_;
};

}  // namespace flash_io
