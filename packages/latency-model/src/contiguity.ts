import type { ChunkPlan } from "./chunk-plan.js";

/**
 * Histogram of chunk sizes; positions are dropped (paper section 3.1). Rows `{1,2,4,6,7}` have one chunk of
 * 1 row and two of 2 rows: `sizes = [1, 2]`, `counts = [1, 2]`.
 */
export interface ContiguityDistribution {
  /** The chunk sizes that occur, in rows, strictly ascending. */
  readonly sizes: Uint32Array;
  /** How many chunks have each size, same length as `sizes`. */
  readonly counts: Uint32Array;
  /** Mean rows per chunk; 0 for an empty plan. */
  readonly meanRows: number;
  /** The most frequent size in rows, the smallest of them on a tie; 0 for an empty plan. */
  readonly modeRows: number;
  /** Number of chunks. */
  readonly chunkCount: number;
  /** Number of selected rows. */
  readonly rows: number;
}

/** The contiguity distribution of a plan. Allocates its result; not for the hot path. */
export function contiguityDistribution(plan: ChunkPlan): ContiguityDistribution {
  const sorted = plan.lengths.slice(0, plan.chunkCount).sort();
  let distinct = 0;
  let rows = 0;
  for (let chunk = 0; chunk < sorted.length; chunk++) {
    rows += sorted[chunk];
    if (chunk === 0 || sorted[chunk] !== sorted[chunk - 1]) distinct++;
  }
  const sizes = new Uint32Array(distinct);
  const counts = new Uint32Array(distinct);
  let slot = -1;
  let modeSlot = 0;
  for (let chunk = 0; chunk < sorted.length; chunk++) {
    if (chunk === 0 || sorted[chunk] !== sorted[chunk - 1]) sizes[++slot] = sorted[chunk];
    counts[slot]++;
    if (counts[slot] > counts[modeSlot]) modeSlot = slot;
  }
  return {
    sizes,
    counts,
    meanRows: sorted.length === 0 ? 0 : rows / sorted.length,
    modeRows: sorted.length === 0 ? 0 : sizes[modeSlot],
    chunkCount: sorted.length,
    rows,
  };
}
