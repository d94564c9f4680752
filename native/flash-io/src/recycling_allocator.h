#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <new>

namespace flash_io {

/// Memory of single objects that is used again for the next of their type, so that a stream allocates
/// nothing once as many have been there at a time. It is never given back.
template <typename T>
class RecyclingAllocator {
 public:
  using value_type = T;

  RecyclingAllocator() = default;
  template <typename Other>
  RecyclingAllocator(const RecyclingAllocator<Other>&) {}  // NOLINT: converts, as allocators do

  T* allocate(std::size_t count) {
    static_assert(sizeof(T) >= sizeof(Free) && alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    if (count == 1) {
      Store& store = Store::instance();
      const std::lock_guard<std::mutex> lock(store.mutex);
      if (Free* const first = store.first) {
        store.first = first->next;
        return reinterpret_cast<T*>(first);
      }
    }
    return static_cast<T*>(::operator new(count * sizeof(T)));
  }

  void deallocate(T* memory, std::size_t count) {
    if (count != 1) {
      ::operator delete(memory);
      return;
    }
    Store& store = Store::instance();
    const std::lock_guard<std::mutex> lock(store.mutex);
    store.first = new (memory) Free{store.first};
  }

  template <typename Other>
  bool operator==(const RecyclingAllocator<Other>&) const {
    return true;
  }

 private:
  struct Free {
    Free* next;
  };
  struct Store {
    /// Never destroyed: threads may outlive what is static.
    static Store& instance() {
      static Store* const store = new Store();
      return *store;
    }
    std::mutex mutex;
    Free* first = nullptr;  // guarded by mutex
  };
};

}  // namespace flash_io
