#include "uring.h"

#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace flash_io {
namespace {

// By value, not by name: headers older than the running kernel lack the newer ones.
constexpr std::uint8_t kOpPollAdd = 6;
constexpr std::uint8_t kOpRead = 22;                // Linux 5.6
constexpr std::uint32_t kSetupClamp = 1U << 4;      // 5.6
constexpr std::uint32_t kSetupCoopTaskrun = 1U << 8;   // 5.19: no interrupt of our thread per completion
constexpr std::uint32_t kSetupSingleIssuer = 1U << 12;  // 6.0
constexpr std::uint32_t kFeatSingleMmap = 1U << 0;  // 5.4
constexpr std::uint32_t kFeatNodrop = 1U << 1;      // 5.5: completions are never lost
constexpr std::uint32_t kEnterGetEvents = 1U << 0;
constexpr std::uint8_t kSqeFixedFile = 1U << 0;
constexpr unsigned kRegisterFiles = 2;

/// What setup may ask for, best first: an older kernel answers EINVAL to a flag that it lacks.
constexpr std::uint32_t kSetupFlags[] = {kSetupClamp | kSetupCoopTaskrun | kSetupSingleIssuer,
                                         kSetupClamp | kSetupCoopTaskrun, kSetupClamp};

std::uint32_t load_acquire(std::uint32_t* word) {
  return std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_acquire);
}

void store_release(std::uint32_t* word, std::uint32_t value) {
  std::atomic_ref<std::uint32_t>(*word).store(value, std::memory_order_release);
}

}  // namespace

Uring::Mapping::~Mapping() {
  if (address != nullptr) ::munmap(address, size_bytes);
}

bool Uring::Mapping::map(int fd, std::size_t bytes, std::uint64_t offset) {
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                        static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) return false;
  address = mapped;
  size_bytes = bytes;
  return true;
}

std::uint32_t* Uring::Mapping::word(std::uint32_t offset) const {
  return reinterpret_cast<std::uint32_t*>(static_cast<std::uint8_t*>(address) + offset);
}

std::unique_ptr<Uring> Uring::create(SystemCalls& calls, unsigned entries, int& error_number) {
  io_uring_params params{};
  int fd = -EINVAL;
  for (const std::uint32_t flags : kSetupFlags) {
    if (fd != -EINVAL) break;
    std::memset(&params, 0, sizeof params);
    params.flags = flags;
    fd = calls.uring_setup(entries, &params);
  }
  if (fd < 0) {
    error_number = -fd;
    return nullptr;
  }
  std::unique_ptr<Uring> ring(new Uring(calls, fd));
  if ((params.features & kFeatSingleMmap) == 0 || (params.features & kFeatNodrop) == 0) {
    error_number = ENOSYS;
    return nullptr;
  }
  if (!ring->map(params)) {
    error_number = errno;
    return nullptr;
  }
  return ring;
}

bool Uring::map(const io_uring_params& params) {
  const std::size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(std::uint32_t);
  const std::size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
  if (!ring_.map(ring_fd_, std::max(sq_bytes, cq_bytes), IORING_OFF_SQ_RING)) return false;
  if (!sqes_.map(ring_fd_, params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES)) return false;
  sq_tail_ = ring_.word(params.sq_off.tail);
  cq_head_ = ring_.word(params.cq_off.head);
  cq_tail_ = ring_.word(params.cq_off.tail);
  cqes_ = ring_.word(params.cq_off.cqes);
  sq_entries_ = params.sq_entries;
  sq_mask_ = *ring_.word(params.sq_off.ring_mask);
  cq_mask_ = *ring_.word(params.cq_off.ring_mask);
  sq_tail_local_ = submitted_ = *sq_tail_;
  // Entries are used in ring order, so the indirection never changes.
  std::uint32_t* const array = ring_.word(params.sq_off.array);
  for (unsigned i = 0; i < sq_entries_; ++i) array[i] = i;
  return true;
}

Uring::~Uring() { ::close(ring_fd_); }

void Uring::register_file(int fd) {
  const std::int32_t files[] = {fd};
  if (calls_.uring_register(ring_fd_, kRegisterFiles, files, 1) >= 0) registered_fd_ = fd;
}

io_uring_sqe* Uring::next_entry() {
  if (unsubmitted() == sq_entries_) return nullptr;
  auto* sqe = static_cast<io_uring_sqe*>(sqes_.address) + (sq_tail_local_ & sq_mask_);
  std::memset(sqe, 0, sizeof *sqe);
  ++sq_tail_local_;
  return sqe;
}

bool Uring::prepare_read(int fd, void* destination, std::uint32_t length_bytes,
                         std::uint64_t offset_bytes, std::uint64_t user_data) {
  io_uring_sqe* sqe = next_entry();
  if (sqe == nullptr) return false;
  sqe->opcode = kOpRead;
  sqe->flags = fd == registered_fd_ ? kSqeFixedFile : std::uint8_t{0};
  sqe->fd = fd == registered_fd_ ? 0 : fd;
  sqe->addr = reinterpret_cast<std::uintptr_t>(destination);
  sqe->len = length_bytes;
  sqe->off = offset_bytes;
  sqe->user_data = user_data;
  return true;
}

bool Uring::prepare_poll(int fd, std::uint64_t user_data) {
  io_uring_sqe* sqe = next_entry();
  if (sqe == nullptr) return false;
  sqe->opcode = kOpPollAdd;
  sqe->fd = fd;
  sqe->poll_events = POLLIN;
  sqe->user_data = user_data;
  return true;
}

int Uring::enter(unsigned most, unsigned min_complete) {
  publish_tail();
  const int result = calls_.uring_enter(ring_fd_, std::min(most, unsubmitted()), min_complete,
                                        min_complete > 0 ? kEnterGetEvents : 0);
  if (result > 0) submitted_ += static_cast<unsigned>(result);
  return result;
}

std::size_t Uring::reap(std::span<UringCompletion> completions) {
  std::uint32_t head = *cq_head_;
  const std::uint32_t tail = load_acquire(cq_tail_);
  std::size_t count = 0;
  for (; head != tail && count < completions.size(); ++head, ++count) {
    const auto& cqe = static_cast<io_uring_cqe*>(cqes_)[head & cq_mask_];
    completions[count] = {cqe.user_data, cqe.res};
  }
  store_release(cq_head_, head);
  if (count > 0) calls_.uring_completions(completions.first(count));
  return count;
}

std::uint64_t Uring::user_data_at(unsigned position) const {
  return static_cast<io_uring_sqe*>(sqes_.address)[position & sq_mask_].user_data;
}

void Uring::publish_tail() { store_release(sq_tail_, sq_tail_local_); }

}  // namespace flash_io
