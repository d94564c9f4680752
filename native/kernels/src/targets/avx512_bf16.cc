// avx512 with the dot products of bf16 (and of int8) for Arithmetic::kReduced; CMakeLists.txt gives this file its compiler flags.
// It shares its namespace with avx512.cc, which runs on CPUs without these instructions: whatever is not inlined here must have
// internal linkage (test/check_target_symbols.sh).
#include "simd/quant-dot-inl.h"
#include "simd/reduced-gemm-inl.h"

namespace nchunk {

const KernelTable* Avx512Bf16Kernels() {
  static constexpr GemmKernels kGemm = HWY_NAMESPACE::MakeBf16Gemm();
  static const KernelTable table = [] {
    KernelTable reduced = *Avx512Kernels();
    reduced.name = "avx512-bf16";
    reduced.reduced_gemm = &kGemm;
    reduced.gemv_quant_dot = HWY_NAMESPACE::DotQuantRows;
    return reduced;
  }();
  return &table;
}

}  // namespace nchunk
