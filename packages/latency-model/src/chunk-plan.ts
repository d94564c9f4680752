import { describeValue, LatencyModelError, requireInteger } from "./errors.js";

/**
 * The rows that one projection reads: sorted, disjoint, maximal runs ("chunks") of selected rows.
 *
 * Chunk `c` covers rows `starts[c] .. starts[c] + lengths[c] - 1`. Only the first `chunkCount` entries
 * count: the arrays may be longer, because producers reuse their workspaces. Owner: whoever produced it;
 * a plan from a selector is valid until that selector's next selection ({@link copyPlan} keeps one).
 */
export interface ChunkPlan {
  /** First row of each chunk, `[>= chunkCount]`, ascending. */
  readonly starts: Uint32Array;
  /** Rows in each chunk, `[>= chunkCount]`, each at least 1. */
  readonly lengths: Uint32Array;
  /** Number of chunks. */
  readonly chunkCount: number;
}

/** Rows are stored as 32-bit unsigned integers. */
const MAX_ROWS = 0xffff_ffff;

/**
 * The plan that selects every row whose mask entry is truthy (non-zero, `true`).
 *
 * @param mask One entry per row, `[rows]`.
 * @returns A new plan that owns arrays of exactly `chunkCount` entries.
 */
export function planFromMask(mask: ArrayLike<number | boolean>): ChunkPlan {
  const rows = mask.length;
  let chunkCount = 0;
  for (let row = 0; row < rows; row++) {
    if (mask[row] && (row === 0 || !mask[row - 1])) chunkCount++;
  }
  const starts = new Uint32Array(chunkCount);
  const lengths = new Uint32Array(chunkCount);
  let chunk = -1;
  for (let row = 0; row < rows; row++) {
    if (!mask[row]) continue;
    if (row === 0 || !mask[row - 1]) starts[++chunk] = row;
    lengths[chunk]++;
  }
  return { starts, lengths, chunkCount };
}

/**
 * The plan that selects exactly these rows.
 *
 * @param sortedRows Row indices, strictly ascending (sorted, no repeats), each in `[0, 2^32 - 2]`.
 * @returns A new plan that owns arrays of exactly `chunkCount` entries.
 * @throws LatencyModelError `INVALID_ARGUMENT` naming the first entry that breaks the order.
 */
export function planFromRows(sortedRows: ArrayLike<number>): ChunkPlan {
  const count = sortedRows.length;
  let chunkCount = 0;
  for (let index = 0; index < count; index++) {
    const row = sortedRows[index];
    const least = index === 0 ? 0 : sortedRows[index - 1] + 1;
    if (!Number.isInteger(row) || row < least || row >= MAX_ROWS) {
      throw new LatencyModelError("INVALID_ARGUMENT", "Invalid argument", {
        path: `sortedRows[${index}]`,
        expected: `an integer between ${least} and ${MAX_ROWS - 1} (strictly ascending)`,
        got: describeValue(row),
        remedy: "Sort the rows and drop repeats first.",
      });
    }
    if (index === 0 || row > least) chunkCount++;
  }
  const starts = new Uint32Array(chunkCount);
  const lengths = new Uint32Array(chunkCount);
  let chunk = -1;
  for (let index = 0; index < count; index++) {
    const row = sortedRows[index];
    if (index === 0 || row !== sortedRows[index - 1] + 1) starts[++chunk] = row;
    lengths[chunk]++;
  }
  return { starts, lengths, chunkCount };
}

/**
 * One byte per row, 1 where the plan selects it.
 *
 * @param plan A plan over `rows` rows.
 * @param rows Rows of the projection; chunks must not reach past it.
 * @returns A new `[rows]` array of 0 and 1.
 * @throws LatencyModelError `INVALID_PLAN`.
 */
export function maskFromPlan(plan: ChunkPlan, rows: number): Uint8Array {
  validatePlan(plan, rows);
  const mask = new Uint8Array(rows);
  for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
    const start = plan.starts[chunk];
    mask.fill(1, start, start + plan.lengths[chunk]);
  }
  return mask;
}

/** Number of rows that the plan selects, the sum of its chunk lengths. */
export function selectedRows(plan: ChunkPlan): number {
  let rows = 0;
  for (let chunk = 0; chunk < plan.chunkCount; chunk++) rows += plan.lengths[chunk];
  return rows;
}

/** A plan of its own memory with the same chunks, to keep past its producer's next selection. */
export function copyPlan(plan: ChunkPlan): ChunkPlan {
  return {
    starts: plan.starts.slice(0, plan.chunkCount),
    lengths: plan.lengths.slice(0, plan.chunkCount),
    chunkCount: plan.chunkCount,
  };
}

/**
 * Checks a plan of foreign origin: chunks sorted, disjoint, non-empty, inside `rows`, and maximal (two
 * chunks that touch must be one).
 *
 * @throws LatencyModelError `INVALID_PLAN` naming the first field that is wrong.
 */
export function validatePlan(plan: ChunkPlan, rows: number): void {
  requireInteger(rows, "rows", 0);
  const capacity = Math.min(plan.starts.length, plan.lengths.length);
  if (!Number.isInteger(plan.chunkCount) || plan.chunkCount < 0 || plan.chunkCount > capacity) {
    throw planError(
      "chunkCount",
      `an integer between 0 and ${capacity}, the room in its arrays`,
      plan.chunkCount,
    );
  }
  let leastStart = 0;
  for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
    const start = plan.starts[chunk];
    const length = plan.lengths[chunk];
    if (start < leastStart) {
      throw planError(
        `starts[${chunk}]`,
        `at least ${leastStart} (sorted, with a gap after the previous chunk)`,
        start,
      );
    }
    if (length < 1) throw planError(`lengths[${chunk}]`, "at least 1", length);
    if (start + length > rows) {
      throw planError(`lengths[${chunk}]`, `at most ${rows - start} for ${rows} rows`, length);
    }
    leastStart = start + length + 1;
  }
}

function planError(path: string, expected: string, got: number): LatencyModelError {
  return new LatencyModelError("INVALID_PLAN", "Invalid chunk plan", {
    path,
    expected,
    got: describeValue(got),
    remedy: "Build plans with planFromRows, planFromMask or a selector.",
  });
}
