#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "flash_io/system_calls.h"

struct io_uring_sqe;

namespace flash_io {

/// A minimal io_uring by raw system calls: no library is needed to build or to run. One thread makes
/// it and uses it. Only reads, on one file that the kernel looks up once.
class Uring {
 public:
  /// Returns null and the errno when the kernel refuses (R5): absent, disabled, filtered, no memory.
  static std::unique_ptr<Uring> create(SystemCalls& calls, unsigned entries, int& error_number);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  /// Spares the kernel a lookup per read of `fd`. Where it is refused, reads name the descriptor.
  void register_file(int fd);

  /// Queues one read; nothing happens before `enter`. False when the queue is full.
  bool prepare_read(int fd, void* destination, std::uint32_t length_bytes,
                    std::uint64_t offset_bytes, std::uint64_t user_data);
  /// Queues one wait for `fd` to become readable, which shows as a completion.
  bool prepare_poll(int fd, std::uint64_t user_data);
  /// Gives up to `most` of what is queued to the kernel and waits for `min_complete` completions.
  /// Returns the number of entries taken, which may be fewer, or -errno.
  int enter(unsigned most, unsigned min_complete);
  /// Entries queued but not yet taken by the kernel.
  unsigned unsubmitted() const { return sq_tail_local_ - submitted_; }
  /// Takes up to `completions.size()` finished requests; returns their number.
  std::size_t reap(std::span<UringCompletion> completions);
  /// For a ring that the kernel serves no more: forgets what is queued, calling `dropped(user_data)`.
  template <typename Dropped>
  void drop_unsubmitted(Dropped dropped) {
    while (unsubmitted() > 0) {
      --sq_tail_local_;
      dropped(user_data_at(sq_tail_local_));
    }
    publish_tail();
  }

  /// Memory mapped for this ring.
  std::size_t mapped_bytes() const { return ring_.size_bytes + sqes_.size_bytes; }

 private:
  struct Mapping {
    void* address = nullptr;
    std::size_t size_bytes = 0;
    ~Mapping();
    bool map(int fd, std::size_t bytes, std::uint64_t offset);
    std::uint32_t* word(std::uint32_t offset) const;
  };

  Uring(SystemCalls& calls, int ring_fd) : calls_(calls), ring_fd_(ring_fd) {}
  bool map(const io_uring_params& params);
  io_uring_sqe* next_entry();
  std::uint64_t user_data_at(unsigned position) const;
  void publish_tail();

  SystemCalls& calls_;
  int ring_fd_;
  int registered_fd_ = -1;
  Mapping ring_;
  Mapping sqes_;
  std::uint32_t* sq_tail_ = nullptr;
  std::uint32_t* cq_head_ = nullptr;
  std::uint32_t* cq_tail_ = nullptr;
  void* cqes_ = nullptr;
  unsigned sq_entries_ = 0;
  unsigned sq_mask_ = 0;
  unsigned cq_mask_ = 0;
  unsigned sq_tail_local_ = 0;
  unsigned submitted_ = 0;
};

}  // namespace flash_io
