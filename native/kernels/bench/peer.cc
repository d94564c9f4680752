// The f32 matrix product of oneDNN or OpenBLAS, loaded at run time: neither is needed to build or to run anything else.
#include <dlfcn.h>

#include <cstdlib>

#include "bench_case.h"

namespace nchunk::bench {
namespace {

// dnnl.h: row-major; returns 0 on success.
using DnnlSgemm = int (*)(char, char, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*, int64_t, float,
                          float*, int64_t);
// cblas.h
using CblasSgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
constexpr int kCblasRowMajor = 101;
constexpr int kCblasNoTrans = 111;

DnnlSgemm g_dnnl = nullptr;
CblasSgemm g_cblas = nullptr;

template <class Function>
Function Symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

void* Open(const char* const* names) {
  for (; *names != nullptr; ++names) {
    if (void* library = dlopen(*names, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

// oneDNN's version structure starts with major, minor and patch.
std::string DnnlName(void* library) {
  const auto version = Symbol<const int* (*)()>(library, "dnnl_version");
  if (version == nullptr) return "oneDNN";
  const int* numbers = version();
  return "oneDNN " + std::to_string(numbers[0]) + "." + std::to_string(numbers[1]) + "." + std::to_string(numbers[2]);
}

void* Dnnl() {
  static const char* const kNames[] = {"libdnnl.so.3", "libdnnl.so.2", nullptr};
  static void* const library = Open(kNames);
  return library;
}

void* OpenBlas() {
  static const char* const kNames[] = {"libopenblas.so.0", nullptr};
  static void* const library = Open(kNames);
  return library;
}

}  // namespace

Peer LoadPeer(int threads) {
  if (void* library = Dnnl()) {
    g_dnnl = Symbol<DnnlSgemm>(library, "dnnl_sgemm");
    // The symbol is found in the OpenMP library that oneDNN brings along.
    if (const auto set = Symbol<void (*)(int)>(library, "omp_set_num_threads")) set(threads);
    if (g_dnnl != nullptr) return {DnnlName(library) + " dnnl_sgemm", ""};
  }
  if (void* library = OpenBlas()) {
    g_cblas = Symbol<CblasSgemm>(library, "cblas_sgemm");
    if (const auto set = Symbol<void (*)(int)>(library, "openblas_set_num_threads")) set(threads);
    const auto core = Symbol<char* (*)()>(library, "openblas_get_corename");
    const auto config = Symbol<char* (*)()>(library, "openblas_get_config");
    if (g_cblas != nullptr) {
      return {std::string("OpenBLAS cblas_sgemm") + (config ? std::string(" (") + config() + ")" : "") +
                  (core ? std::string(" on ") + core() : ""),
              ""};
    }
  }
  return {"", "neither libdnnl nor libopenblas could be loaded; on Debian: apt-get install libdnnl2 (or libopenblas0-pthread)"};
}

void PeerGemm(const float* a, const float* b, float* c, size_t m, size_t k, size_t n) {
  const auto im = static_cast<int64_t>(m), ik = static_cast<int64_t>(k), in = static_cast<int64_t>(n);
  if (g_dnnl != nullptr) {
    g_dnnl('N', 'N', im, in, ik, 1.0f, a, ik, b, in, 0.0f, c, in);
  } else {
    g_cblas(kCblasRowMajor, kCblasNoTrans, kCblasNoTrans, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0f,
            a, static_cast<int>(k), b, static_cast<int>(n), 0.0f, c, static_cast<int>(n));
  }
}

}  // namespace nchunk::bench
