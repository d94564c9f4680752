import type { ChunkPlan } from "@neuron-chunking/latency-model";
import { ChunkSelectorError, requireInteger, requireLength } from "./errors.js";

/** Channels accumulated together: 2 KiB of sums, so that a tile of tokens streams through the L1 cache. */
const CHANNEL_TILE = 256;

/**
 * Importance of every input channel: `v[k] = mean over tokens of |a[t, k]|` (paper App. B.2).
 * Accumulated in double precision. NaN and infinities pass through; the selectors refuse them.
 *
 * @param activation `[tokens, channels]`, row-major.
 * @param tokens Rows of the activation, at least 1.
 * @param channels Columns of the activation, at least 1.
 * @param out Where to write, `[channels]`; a new array when absent.
 * @returns `out`.
 * @throws ChunkSelectorError `INVALID_REQUEST` on a length that does not fit.
 */
export function importanceOf(
  activation: Float32Array,
  tokens: number,
  channels: number,
  out: Float32Array = new Float32Array(channels),
): Float32Array {
  requireInteger(tokens, "tokens", 1);
  requireInteger(channels, "channels", 1);
  requireLength(activation.length, tokens * channels, "activation", "tokens * channels");
  requireLength(out.length, channels, "out", "channels");
  const sums = new Float64Array(Math.min(CHANNEL_TILE, channels));
  for (let base = 0; base < channels; base += CHANNEL_TILE) {
    const width = Math.min(CHANNEL_TILE, channels - base);
    sums.fill(0);
    for (let token = 0; token < tokens; token++) {
      const offset = token * channels + base;
      for (let lane = 0; lane < width; lane++) sums[lane] += Math.abs(activation[offset + lane]);
    }
    for (let lane = 0; lane < width; lane++) out[base + lane] = sums[lane] / tokens;
  }
  return out;
}

/**
 * Rows to keep at a sparsity: `(1 - sparsity) * rows` to the nearest integer, and at least one row unless the
 * sparsity is 1.
 *
 * @param rows Rows of the projection, at least 0.
 * @param sparsity Share of the rows left out, in [0, 1].
 * @throws ChunkSelectorError `INVALID_REQUEST`.
 */
export function budgetRows(rows: number, sparsity: number): number {
  requireInteger(rows, "rows", 0);
  if (!(sparsity >= 0 && sparsity <= 1)) {
    throw new ChunkSelectorError("INVALID_REQUEST", {
      path: "sparsity",
      expected: "between 0 (keep all) and 1 (keep none)",
      got: String(sparsity),
      remedy: "Give a fraction: 40 % sparsity is 0.4.",
    });
  }
  if (sparsity === 1) return 0;
  return Math.min(rows, Math.max(1, Math.round((1 - sparsity) * rows)));
}

/**
 * Share of the total importance that a plan keeps, in [0, 1]; 1 when the total is zero, as nothing is lost.
 *
 * @param plan A plan over `importance.length` rows.
 * @param importance `[rows]`, in the order of the plan's rows.
 */
export function importanceKept(plan: ChunkPlan, importance: Float32Array): number {
  let total = 0;
  for (let row = 0; row < importance.length; row++) total += importance[row];
  if (total === 0) return 1;
  let kept = 0;
  for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
    const start = plan.starts[chunk];
    const end = Math.min(importance.length, start + plan.lengths[chunk]);
    for (let row = start; row < end; row++) kept += importance[row];
  }
  return Math.min(1, kept / total);
}
