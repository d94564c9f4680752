#pragma once

#include <pthread.h>
#include <signal.h>

namespace flash_io {

/// While it lives, threads started by this one block all signals: those of the process are for its
/// own threads, and here they would only interrupt reads.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

/// How our threads show in `top` and in debuggers.
inline void name_this_thread() { pthread_setname_np(pthread_self(), "flash-io"); }

}  // namespace flash_io
