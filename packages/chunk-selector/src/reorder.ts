import { createSelector } from "./create-selector.js";
import { ChunkSelectorError, requireLength } from "./errors.js";
import type { Selector } from "./policy.js";

/** In a sample, the neurons in this top share by importance count as active (paper section 3.3). */
export const ACTIVE_SHARE = 0.5;

/**
 * How often each neuron is active over calibration samples: in the top 50 % by importance, rounded up to a
 * whole neuron, ties to the lower index (paper section 3.3, App. F).
 *
 * @param samples Importances of one projection in original order, each `[rows]`, at least one; read once, so
 *   a generator that yields the same array again and again will do.
 * @returns A new `[rows]` array of frequencies in [0, 1].
 * @throws ChunkSelectorError `INVALID_REQUEST` (no samples, no rows, unequal lengths) or `INVALID_IMPORTANCE`.
 */
export function activationFrequencies(samples: Iterable<Float32Array>): Float64Array {
  let frequencies = new Float64Array(0);
  let topk: Selector | undefined;
  let sampleCount = 0;
  for (const importance of samples) {
    const rows = importance.length;
    if (topk === undefined) {
      if (rows === 0) throw noRows();
      topk = createSelector("topk", { maxRows: rows });
      frequencies = new Float64Array(rows);
    }
    requireLength(rows, frequencies.length, `samples[${sampleCount}]`, "as the first sample");
    const budgetRows = Math.ceil(ACTIVE_SHARE * rows);
    const active = topk.select({ importance, rows, budgetRows, rowBytes: 1 });
    for (let chunk = 0; chunk < active.chunkCount; chunk++) {
      const end = active.starts[chunk] + active.lengths[chunk];
      for (let row = active.starts[chunk]; row < end; row++) frequencies[row]++;
    }
    sampleCount++;
  }
  if (sampleCount === 0) {
    throw new ChunkSelectorError("INVALID_REQUEST", {
      path: "samples",
      expected: "at least one calibration sample",
      got: "none",
    });
  }
  for (let row = 0; row < frequencies.length; row++) frequencies[row] /= sampleCount;
  return frequencies;
}

function noRows(): ChunkSelectorError {
  return new ChunkSelectorError("INVALID_REQUEST", {
    path: "samples[0].length",
    expected: "at least 1 (one importance per row)",
    got: "0",
  });
}

/**
 * Hot-cold order: neurons by descending activation frequency, the lower index first on a tie (paper
 * section 3.3). Store weight rows, and gather activations, in this order; dense output is unchanged.
 *
 * @param frequencies One finite number per neuron in original order, `[rows]`.
 * @returns A new `[rows]` array: `permutation[storedIndex] = originalIndex`.
 * @throws ChunkSelectorError `INVALID_REQUEST` on a frequency that is not finite.
 */
export function hotColdPermutation(frequencies: ArrayLike<number>): Uint32Array {
  const permutation = new Uint32Array(frequencies.length);
  for (let row = 0; row < permutation.length; row++) {
    if (!Number.isFinite(frequencies[row])) {
      throw new ChunkSelectorError("INVALID_REQUEST", {
        path: `frequencies[${row}]`,
        expected: "a finite number",
        got: String(frequencies[row]),
      });
    }
    permutation[row] = row;
  }
  return permutation.sort((left, right) => frequencies[right] - frequencies[left] || left - right);
}
