#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "flash_io/aligned_buffer.h"
#include "flash_io/reader.h"

namespace flash_io::testing {

/// A file of seeded random bytes in the current directory (a disk, where direct I/O usually works).
class TestFile {
 public:
  explicit TestFile(std::size_t size_bytes, std::uint64_t seed = 1,
                    const std::filesystem::path& directory = ".")
      : path_(std::filesystem::absolute(directory) /
              ("flash-io-test-" + std::to_string(::getpid()) + "-" + std::to_string(counter()++))),
        bytes_(size_bytes) {
    std::mt19937_64 random(seed);
    for (auto& byte : bytes_) byte = static_cast<std::uint8_t>(random());
    write(bytes_);
  }
  ~TestFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TestFile(const TestFile&) = delete;
  TestFile& operator=(const TestFile&) = delete;

  void write(const std::vector<std::uint8_t>& bytes) {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  std::string path() const { return path_.string(); }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  static int& counter() {
    static int count = 0;
    return count;
  }
  std::filesystem::path path_;
  std::vector<std::uint8_t> bytes_;
};

/// Landing memory with canaries on both sides of every byte that a test may write.
class GuardedLanding {
 public:
  static constexpr std::size_t kGuardBytes = 2 * kPageBytes;
  static constexpr std::uint8_t kCanary = 0xA5;

  explicit GuardedLanding(std::size_t size_bytes)
      : size_bytes_(size_bytes), buffer_(size_bytes + 2 * kGuardBytes) {
    std::memset(buffer_.data(), kCanary, buffer_.size_bytes());
  }
  std::uint8_t* data() { return buffer_.data() + kGuardBytes; }
  bool intact(std::size_t offset, std::size_t length) {
    for (std::size_t i = 0; i < length; ++i) {
      if (buffer_.data()[offset + i] != kCanary) return false;
    }
    return true;
  }
  bool guards_intact() {
    return intact(0, kGuardBytes) && intact(kGuardBytes + size_bytes_, kGuardBytes);
  }
  /// True when bytes [offset, offset + length) of the landing were never written.
  bool untouched(std::size_t offset, std::size_t length) {
    return intact(kGuardBytes + offset, length);
  }

 private:
  std::size_t size_bytes_;
  AlignedBuffer buffer_;
};

/// Waits for one batch and counts how often it settled.
class Settlement {
 public:
  Batch::Settle callback() {
    return [this](Batch& batch) {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++times_;
      failure_ = batch.failure();
      cancelled_ = batch.cancelled();
      transferred_bytes_ = batch.transferred_bytes();
      changed_.notify_all();
    };
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return times_ > 0; });
  }
  int times() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return times_;
  }
  // Only after wait().
  const std::optional<Failure>& failure() const { return failure_; }
  bool cancelled() const { return cancelled_; }
  std::uint64_t transferred_bytes() const { return transferred_bytes_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int times_ = 0;
  std::optional<Failure> failure_;
  bool cancelled_ = false;
  std::uint64_t transferred_bytes_ = 0;
};

inline std::unique_ptr<Reader> open_or_die(const std::string& path, OpenOptions options = {}) {
  Failure failure;
  auto reader = Reader::open(path, std::move(options), failure);
  if (!reader) {
    ADD_FAILURE() << failure_code_name(failure.code) << ": " << failure.detail << " errno "
                  << failure.error_number;
    std::abort();
  }
  return reader;
}

/// The seed of a randomised test: NCHUNK_TEST_SEED, or a new one. Print it with SCOPED_TRACE.
inline std::uint64_t test_seed() {
  if (const char* given = std::getenv("NCHUNK_TEST_SEED")) return std::strtoull(given, nullptr, 10);
  return std::random_device{}();
}

/// How much a randomised test does; more under NCHUNK_SOAK (see soak.sh).
inline std::size_t effort(std::size_t usual, std::size_t soak) {
  return std::getenv("NCHUNK_SOAK") != nullptr ? soak : usual;
}

}  // namespace flash_io::testing
