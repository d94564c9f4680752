// The kernels for one target; CMakeLists.txt gives this file its compiler flags.
#include "simd/table-inl.h"

namespace nchunk {

const KernelTable* NeonKernels() {
  static constexpr KernelTable kTable = HWY_NAMESPACE::MakeTable("neon");
  return &kTable;
}

}  // namespace nchunk
