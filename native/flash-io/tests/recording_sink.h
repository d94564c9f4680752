#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

#include "flash_io/slice_stream.h"

namespace flash_io::testing {

/// A consumer that records what it is told and that it is told so once, in the right order.
class RecordingSink {
 public:
  /// `on_landed` runs on the reader's thread, with every slice.
  explicit RecordingSink(std::function<void(RecordingSink&, std::uint32_t)> on_landed = nullptr)
      : on_landed_(std::move(on_landed)) {}

  const FlashIoSink& sink() const { return sink_; }
  SliceStream::Ended ended() {
    return [this](SliceStream& stream) {
      const std::lock_guard<std::mutex> lock(mutex_);
      EXPECT_EQ(ends_, 1) << "the sink is told first";
      ++ended_callbacks_;
      failure_ = stream.failure();
      bytes_read_ = stream.bytes_read();
      read_ns_ = stream.read_ns();
      changed_.notify_all();
    };
  }

  void release(std::uint32_t count) { stream_->release(stream_->context, count); }
  void close() { stream_->close(stream_->context); }

  void wait_for_landed(std::size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return landed_.size() >= count; });
  }
  /// The next slice that landed, in the order of landing; false once the stream ended without one.
  bool take(std::uint32_t& slice) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return taken_ < landed_.size() || ends_ > 0; });
    if (taken_ == landed_.size()) return false;
    slice = landed_[taken_++];
    return true;
  }
  void wait_for_end() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return ended_callbacks_ > 0; });
  }

  std::vector<std::uint32_t> landed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return landed_;
  }
  int begins() const { return begins_; }
  std::uint32_t slices() const { return slices_; }
  // Only after wait_for_end().
  int ends() const { return ends_; }
  bool all_landed() const { return all_landed_; }
  const std::optional<Failure>& failure() const { return failure_; }
  std::uint64_t bytes_read() const { return bytes_read_; }
  std::uint64_t read_ns() const { return read_ns_; }

 private:
  static RecordingSink& self(void* context) { return *static_cast<RecordingSink*>(context); }
  static void on_begin(void* context, const FlashIoStream* stream, std::uint32_t slices) {
    ++self(context).begins_;
    self(context).stream_ = stream;
    self(context).slices_ = slices;
  }
  static void on_landed(void* context, std::uint32_t slice) {
    RecordingSink& sink = self(context);
    {
      const std::lock_guard<std::mutex> lock(sink.mutex_);
      EXPECT_EQ(sink.begins_, 1);
      EXPECT_EQ(sink.ends_, 0) << "slice " << slice << " landed after the end";
      sink.landed_.push_back(slice);
      sink.changed_.notify_all();
    }
    if (sink.on_landed_) sink.on_landed_(sink, slice);
  }
  static void on_end(void* context, int all_landed) {
    const std::lock_guard<std::mutex> lock(self(context).mutex_);
    ++self(context).ends_;
    self(context).all_landed_ = all_landed != 0;
    self(context).changed_.notify_all();
  }

  const std::function<void(RecordingSink&, std::uint32_t)> on_landed_;
  const FlashIoSink sink_{FLASH_IO_SINK_MAGIC, this, on_begin, on_landed, on_end};
  const FlashIoStream* stream_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint32_t> landed_;
  std::size_t taken_ = 0;
  int begins_ = 0;
  std::uint32_t slices_ = 0;
  int ends_ = 0;
  bool all_landed_ = false;
  int ended_callbacks_ = 0;
  std::optional<Failure> failure_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t read_ns_ = 0;
};

}  // namespace flash_io::testing
