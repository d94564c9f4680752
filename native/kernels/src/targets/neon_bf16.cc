// neon-dot with the dot product of bf16 for Arithmetic::kReduced; CMakeLists.txt gives this file its compiler flags. It shares its
// namespace with neon.cc, which runs on CPUs without these instructions: whatever is not inlined here must have internal linkage
// (test/check_target_symbols.sh).
#include "simd/reduced-gemm-inl.h"

namespace nchunk {

const KernelTable* NeonBf16Kernels() {
  static constexpr GemmKernels kGemm = HWY_NAMESPACE::MakeBf16Gemm();
  static const KernelTable table = [] {
    KernelTable reduced = *NeonDotKernels();
    reduced.name = "neon-bf16";
    reduced.reduced_gemm = &kGemm;
    return reduced;
  }();
  return &table;
}

}  // namespace nchunk
