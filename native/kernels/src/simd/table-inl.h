// The table of one target. Included by that target's translation unit only.
#ifndef NCHUNK_SIMD_TABLE_INL_H_
#define NCHUNK_SIMD_TABLE_INL_H_

#include "simd/attention-few-inl.h"
#include "simd/attention-inl.h"
#include "simd/gemm-inl.h"
#include "simd/gemv-inl.h"
#include "simd/quant-inl.h"
#include "simd/quant-pack-inl.h"
#include "simd/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

constexpr KernelTable MakeTable(const char* name) {
  return KernelTable{
      .name = name,
      .gemm =
          {
              .name = "f32",
              .panel_columns = kPanelColumns,
              .cell_channels = F32Cells::kChannels,
              .round_tile = nullptr,
              .pack_rows = PackRows,
              .pack_transposed = PackTransposed,
              .pack_quant_rows = PackQuantRows,
              .gemm_panel = GemmPanel<F32Cells>,
              .gemm_pack_rows = GemmPackRows<F32Cells>,
#if HWY_TARGET == HWY_AVX3
              .gemm_pack_quant_rows = GemmPackQuantRows<F32Cells>,
#else
              .gemm_pack_quant_rows = nullptr,  // scales of a few columns are slow to widen there
#endif
          },
      .reduced_gemm = nullptr,
      .gemv_rows = GemvRows,
      .gemv_columns = GemvColumns,
      .gemv_quant_rows = GemvQuantRows,
      .gemv_quant_dot = nullptr,
      .dot_rows = DotRows,
      .epilogue = Epilogue,
      .attention_block = AttendBlock,
      .attention_few = AttendFew,
      .attention_few_step = kLanes,
      .attention_merge = MergeAttention,
      .importance = ImportanceOf,
      .rms_norm_row = RmsNormRow,
      .layer_norm_row = LayerNormRow,
      .add = AddTo,
      .silu_mul = SiluMulOf,
      .rotate_half = RotateHalf,
      .fma_loop = FmaLoop,
      .widen = Widen,
  };
}

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_TABLE_INL_H_
