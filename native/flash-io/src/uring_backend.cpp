#include "flash_io/uring_backend.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <future>
#include <new>
#include <system_error>
#include <utility>

#include "claimed_request.h"
#include "flash_io/aligned_buffer.h"
#include "thread_setup.h"
#include "uring.h"

namespace flash_io {
namespace {

constexpr std::uint64_t kWake = ~std::uint64_t{0};
constexpr std::uint64_t kTrialRead = kWake - 1;
/// Refusals of an enter call that pass: no memory for the moment, or completions to be taken first.
constexpr std::chrono::microseconds kEnterBackOff{100};
/// About a second of nothing but refusals: this ring will not recover.
constexpr unsigned kMaxRefusals = 10'000;
/// How often finished reads are looked for on a ring that answers no calls any more.
constexpr std::chrono::microseconds kDrainPoll{200};
constexpr std::size_t kReapBatch = 128;

/// Without the ring's cooperation nothing can be read at all: a lower backend will do (R5).
bool is_refusal(int error_number) {
  switch (error_number) {
    case ENOSYS:
    case EPERM:
    case EACCES:
    case EINVAL:
    case EOPNOTSUPP:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
      return true;
    default:
      return false;
  }
}

void wake(int fd) {
  const std::uint64_t one = 1;
  // It can only fail when the counter is full, and then the other side is awake already.
  static_cast<void>(!::write(fd, &one, sizeof one));
}

}  // namespace

struct UringBackend::Slot {
  std::optional<ClaimedRequest> request;
  Clock::time_point not_before;
};

std::unique_ptr<UringBackend> UringBackend::start(const BackendContext& context,
                                                  const Tuning& tuning, Failure& failure) {
  std::unique_ptr<UringBackend> backend(new UringBackend(context, tuning));
  std::promise<bool> ready;
  const SignalsBlocked inherited_by_thread;
  // The ring belongs to the thread that makes it.
  backend->thread_ = std::thread([&ready, &failure, self = backend.get()] {
    name_this_thread();
    bool is_up = false;
    try {
      is_up = self->set_up(failure);
    } catch (const std::bad_alloc&) {
      failure = {FailureCode::kBackendUnsupported, ENOMEM, 0, 0, "no memory for an io_uring"};
    }
    ready.set_value(is_up);
    if (is_up) self->run();
  });
  return ready.get_future().get() ? std::move(backend) : nullptr;
}

UringBackend::UringBackend(const BackendContext& context, const Tuning& tuning)
    : context_(context), tuning_(tuning) {}

UringBackend::~UringBackend() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  if (wake_fd_ >= 0) wake(wake_fd_);
  if (thread_.joinable()) thread_.join();
  successor_.reset();
  ring_.reset();
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

bool UringBackend::set_up(Failure& failure) {
  const auto refuse = [&failure](int error_number, const char* detail) {
    failure = {FailureCode::kBackendUnsupported, error_number, 0, 0, detail};
    return false;
  };
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return refuse(errno, "io_uring needs an event descriptor");
  int error_number = 0;
  ring_ = Uring::create(context_.calls, tuning_.queue_depth + 1, error_number);
  if (!ring_) return refuse(error_number, "the kernel refuses io_uring");
  ring_->register_file(context_.file.fd());
  slots_.resize(tuning_.queue_depth);
  free_slots_.reserve(slots_.size());
  retries_.reserve(slots_.size());
  reaped_.reserve(slots_.size());
  for (unsigned slot = tuning_.queue_depth; slot > 0; --slot) free_slots_.push_back(slot - 1);
  memory_bytes_ = ring_->mapped_bytes() + slots_.size() * sizeof(Slot);
  return trial_read(failure);
}

/// A ring that can be made may still refuse to read (R6): a filter on entering it, or a file system
/// without what it needs.
bool UringBackend::trial_read(Failure& failure) {
  const std::uint32_t bytes = std::max<std::uint32_t>(context_.file.alignment_bytes(), 512);
  AlignedBuffer block(bytes, std::max<std::size_t>(bytes, kPageBytes));
  ring_->prepare_read(context_.file.fd(), block.data(), bytes, 0, kTrialRead);
  int result = -EINTR;
  for (unsigned i = 0; i < kMaxAttempts && (result == -EINTR || result == -EAGAIN); ++i) {
    result = ring_->enter(1, 1);
  }
  UringCompletion completion{kTrialRead, result};
  if (result >= 0) {
    while (ring_->reap({&completion, 1}) == 0) static_cast<void>(ring_->enter(1, 1));
  }
  if (completion.result >= 0) return true;
  const bool is_refused = result < 0 || is_refusal(-completion.result);
  failure = {is_refused ? FailureCode::kBackendUnsupported : FailureCode::kIoError,
             -completion.result, 0, bytes,
             is_refused ? "io_uring cannot read this file" : "the trial read failed"};
  return false;
}

void UringBackend::submit(std::shared_ptr<Batch> batch) { submit_all({&batch, 1}); }

void UringBackend::submit_all(std::span<std::shared_ptr<Batch>> batches) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (successor_) {
      successor_->submit_all(batches);
      return;
    }
    for (std::shared_ptr<Batch>& batch : batches) queue_.push_back(std::move(batch));
  }
  // One wake for all of them.
  if (waiting_.exchange(false)) wake(wake_fd_);
}

void UringBackend::run() {
  for (;;) {
    prepare_retries();
    fill();
    const Outlook outlook = look_ahead();
    if (outlook == Outlook::kFinished) return;
    if (outlook == Outlook::kMustWait) {
      enter();
      waiting_.store(false);
    }
    reap();
    // The device first: whoever is told of a batch may take this thread's core.
    if (ends_a_batch()) {
      fill();
      flush();
    }
    settle_reaped();
    if (lost_errno() != 0) return;
  }
}

/// What comes next. Before a wait it announces that this thread is in the kernel, if a new batch could
/// change what it waits for.
UringBackend::Outlook UringBackend::look_ahead() {
  const std::lock_guard<std::mutex> lock(mutex_);
  const bool can_take = !held_ && !free_slots_.empty();
  if (can_take && !queue_.empty()) return Outlook::kMoreToTake;
  if (stopping_ && queue_.empty() && free_slots_.size() == slots_.size()) return Outlook::kFinished;
  waiting_.store(can_take);
  return Outlook::kMustWait;
}

void UringBackend::prepare_retries() {
  if (retries_.empty()) return;
  const Clock::time_point now = Clock::now();
  std::erase_if(retries_, [this, now](unsigned slot) {
    if (slots_[slot].request->abandon_if_stopped()) {
      release(slot);
      return true;
    }
    if (slots_[slot].not_before > now || !has_room(*slots_[slot].request)) {
      return false;
    }
    prepare(slot);
    return true;
  });
}

void UringBackend::fill() {
  for (;;) {
    unsigned slot = held_.value_or(0);
    if (!held_ && !claim_next(slot)) return;
    held_ = slot;
    ClaimedRequest& request = *slots_[slot].request;
    if (request.abandon_if_stopped()) {
      release(slot);
    } else if (has_room(request)) {
      prepare(slot);
    } else {
      return;
    }
    held_.reset();
  }
}

bool UringBackend::claim_next(unsigned& slot) {
  if (free_slots_.empty()) return false;
  for (;;) {
    if (!current_) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (queue_.empty()) return false;
      current_ = std::move(queue_.front());
      queue_.pop_front();
    }
    const std::size_t index = current_->claim();
    if (index != Batch::kNone) {
      slot = free_slots_.back();
      free_slots_.pop_back();
      slots_[slot].request.emplace(current_, index, context_);
      return true;
    }
    current_.reset();
  }
}

bool UringBackend::has_room(const ClaimedRequest& request) const {
  const std::uint64_t most = std::min(tuning_.max_bytes_in_flight, request.most_bytes_in_flight());
  return in_kernel_ == 0 || bytes_in_kernel_ + request.length_bytes() <= most;
}

void UringBackend::prepare(unsigned slot) {
  const ReadProgress& progress = slots_[slot].request->progress();
  // Never full: the ring has an entry for every slot, and one more.
  ring_->prepare_read(context_.file.fd(), progress.destination(), progress.length_bytes(),
                      progress.offset_bytes(), slot);
  enter_kernel(slots_[slot].request->length_bytes());
}

void UringBackend::enter_kernel(std::uint32_t length_bytes) {
  ++in_kernel_;
  bytes_in_kernel_ += length_bytes;
  context_.counters.enter_flight(length_bytes);
}

void UringBackend::leave_kernel(std::uint32_t length_bytes) {
  --in_kernel_;
  bytes_in_kernel_ -= length_bytes;
  context_.counters.leave_flight(length_bytes);
}

void UringBackend::release(unsigned slot) {
  slots_[slot].request.reset();
  free_slots_.push_back(slot);
}

/// Hands over what is queued and waits: for a few reads while more are to come, for whatever is in
/// flight (in groups) at the end, for a wake or the next retry when nothing is.
void UringBackend::enter() {
  if (in_kernel_ == 0 && !retries_.empty()) {
    const auto next = std::min_element(
        retries_.begin(), retries_.end(),
        [this](unsigned a, unsigned b) { return slots_[a].not_before < slots_[b].not_before; });
    std::this_thread::sleep_until(slots_[*next].not_before);
    return;
  }
  if (!wake_armed_) wake_armed_ = ring_->prepare_poll(wake_fd_, kWake);
  // In groups, so that the device starts on the first while the kernel prepares the next. The poll of
  // the wake descriptor rides along and is not worth a call of its own.
  while (ring_->unsubmitted() > tuning_.submit_batch + 1) {
    if (!enter_once(tuning_.submit_batch, 0)) return;
  }
  static_cast<void>(enter_once(ring_->unsubmitted(), completions_worth_waiting_for()));
}

/// Many, to save calls, but never more than may end a batch: somebody waits for that one, and the
/// batches behind it would hold it up.
unsigned UringBackend::completions_worth_waiting_for() const {
  const bool more_to_come = held_ || free_slots_.empty();
  // A third: waiting for all of a few large reads would leave the device idle.
  std::size_t group = std::min(more_to_come ? in_kernel_ / 3 : in_kernel_, tuning_.submit_batch);
  for (const Slot& slot : slots_) {
    if (slot.request) group = std::min(group, slot.request->remaining_in_batch());
  }
  return std::max(1U, static_cast<unsigned>(group));
}

/// One call; false when the kernel took nothing.
bool UringBackend::enter_once(unsigned most, unsigned min_complete) {
  const int result = ring_->enter(most, min_complete);
  context_.counters.enter_calls.fetch_add(1, std::memory_order_relaxed);
  if (result >= 0) {
    refusals_ = 0;
    return true;
  }
  if (result == -EAGAIN || result == -EBUSY || result == -ENOMEM) {
    if (++refusals_ > kMaxRefusals) lose_ring(-result);
    std::this_thread::sleep_for(kEnterBackOff);
  } else if (result != -EINTR) {
    lose_ring(-result);
  }
  return false;
}

/// Hands over what is queued without waiting for anything.
void UringBackend::flush() {
  while (ring_->unsubmitted() > 0) {
    if (!enter_once(tuning_.submit_batch, 0)) return;
  }
}

/// Takes what the kernel is done with.
void UringBackend::reap() {
  std::array<UringCompletion, kReapBatch> completions;
  for (std::size_t count = completions.size(); count == completions.size();) {
    count = ring_->reap(completions);
    for (const UringCompletion& completion : std::span(completions).first(count)) {
      if (completion.user_data == kWake) {
        std::uint64_t wakes = 0;
        static_cast<void>(!::read(wake_fd_, &wakes, sizeof wakes));
        wake_armed_ = false;
      } else {
        const auto slot = static_cast<unsigned>(completion.user_data);
        leave_kernel(slots_[slot].request->length_bytes());
        reaped_.push_back({slot, completion.result});
      }
    }
  }
}

/// Whether somebody may be waiting for what was reaped.
bool UringBackend::ends_a_batch() const {
  return std::any_of(reaped_.begin(), reaped_.end(), [this](const Reaped& reaped) {
    return slots_[reaped.slot].request->remaining_in_batch() <= reaped_.size();
  });
}

void UringBackend::settle_reaped() {
  for (const auto& [slot, result] : reaped_) complete(slot, result);
  reaped_.clear();
}

void UringBackend::complete(unsigned slot, std::int32_t result) {
  ClaimedRequest& request = *slots_[slot].request;
  const ClaimedRequest::Next next = request.on_result(result);
  if (next == ClaimedRequest::Next::kEnded) {
    release(slot);
    return;
  }
  slots_[slot].not_before =
      next == ClaimedRequest::Next::kBackOff
          ? Clock::now() + std::chrono::nanoseconds(request.progress().back_off_ns())
          : Clock::time_point{};
  retries_.push_back(slot);
}

/// Leaves a ring that the kernel no longer serves: what it holds is waited for, because it still
/// writes to buffers; what it has not taken is read here; the rest goes to a pool.
void UringBackend::lose_ring(int error_number) {
  if (lost_errno() != 0) return;
  lost_errno_.store(error_number, std::memory_order_release);
  ring_->drop_unsubmitted([this](std::uint64_t user_data) {
    if (user_data == kWake) return;
    const auto slot = static_cast<unsigned>(user_data);
    leave_kernel(slots_[slot].request->length_bytes());
    retries_.push_back(slot);
  });
  for (reap(); in_kernel_ > 0; reap()) std::this_thread::sleep_for(kDrainPoll);
  settle_reaped();
  if (held_) retries_.push_back(*held_);
  for (const unsigned slot : retries_) read_without_ring(slot);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (current_) queue_.push_front(std::move(current_));
  try {
    successor_ = std::make_unique<PoolBackend>(context_, tuning_);
    queue_.drain([this](std::shared_ptr<Batch> batch) { successor_->submit(std::move(batch)); });
  } catch (const std::system_error& error) {
    // Not even threads: fail what is left, each batch once.
    queue_.drain([&error](const std::shared_ptr<Batch>& batch) {
      if (batch->claim() == Batch::kNone) return;
      batch->fail({FailureCode::kNoResources, error.code().value(), 0, 0,
                   "the reader's threads could not be started"});
    });
  }
}

void UringBackend::read_without_ring(unsigned slot) {
  using Next = ClaimedRequest::Next;
  ClaimedRequest& request = *slots_[slot].request;
  Next next = request.abandon_if_stopped() ? Next::kEnded : Next::kTransfer;
  while (next != Next::kEnded) {
    const ReadProgress& progress = request.progress();
    if (next == Next::kBackOff) {
      std::this_thread::sleep_for(std::chrono::nanoseconds(progress.back_off_ns()));
    }
    next = request.on_result(context_.calls.pread(context_.file.fd(), progress.destination(),
                                                  progress.length_bytes(),
                                                  progress.offset_bytes()));
  }
  release(slot);
}

}  // namespace flash_io
