// neon with arithmetic on f16 and the dot product of int8 for Arithmetic::kReduced; CMakeLists.txt gives this file its compiler flags.
// It shares its namespace with neon.cc, which runs on CPUs without these instructions: whatever is not inlined here must have
// internal linkage (test/check_target_symbols.sh).
#include "kernel_table.h"
#include "simd/quant-dot-inl.h"

namespace nchunk {

const KernelTable* NeonDotKernels() {
  static const KernelTable table = [] {
    KernelTable reduced = *NeonKernels();
    reduced.name = "neon-dot";
    reduced.gemv_quant_dot = HWY_NAMESPACE::DotQuantRows;
    return reduced;
  }();
  return &table;
}

}  // namespace nchunk
