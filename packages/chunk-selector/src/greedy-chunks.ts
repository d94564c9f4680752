import type { LatencyTable } from "@neuron-chunking/latency-model";
import { Candidates } from "./candidates.js";
import { ChunkSelectorError } from "./errors.js";
import type { WindowRows } from "./hyperparameters.js";
import type { PlanBuilder } from "./plan-builder.js";
import { RowSet } from "./row-set.js";

/**
 * Most windows in one selection: a hundred times what the paper's table leads to, and about 150 MB of
 * workspace. Past it the hyperparameters are a mistake (a step of one row over a large matrix).
 */
export const MAX_CANDIDATES = 1 << 22;

/** Exponent of the power of two to which the largest possible score is scaled; see `scoreScale`. */
const TOP_SCORE_EXPONENT = 100;

/**
 * Utility-guided greedy chunk selection: the paper's Algorithm 1 (section 3.2).
 *
 * Every window of every size class scores `(sum of importance) / T[size]`; windows are taken by descending
 * score when they overlap nothing taken and fit what is left of the budget. The score is computed in double
 * precision and compared in single precision, where equal scores go to the smaller size class, then to the
 * lower start.
 */
export class GreedyChunks {
  readonly #prefix: Float64Array;
  readonly #candidates = new Candidates();
  readonly #taken: RowSet;

  constructor(maxRows: number) {
    this.#prefix = new Float64Array(maxRows + 1);
    this.#taken = new RowSet(maxRows);
  }

  /**
   * Adds the chosen chunks to `plan`.
   *
   * @param importance `[>= rows]`, checked.
   * @param rows Rows of the projection, at least 2.
   * @param budgetRows Most rows to take, `1 <= budgetRows < rows`.
   * @param windows Window sizes in rows. Sizes are clipped to the budget: a window that exceeds it could never
   *   be taken, and a smallest window that exceeds it would leave nothing to take.
   * @param latencies `T` by rows, `[> largest window]`, positive.
   */
  addChunks(
    importance: Float32Array,
    rows: number,
    budgetRows: number,
    windows: WindowRows,
    rowBytes: number,
    table: LatencyTable,
    plan: PlanBuilder,
  ): void {
    const minRows = Math.min(windows.minRows, budgetRows);
    const maxRows = Math.min(windows.maxRows, budgetRows);
    const latencies = table.rowLatencyNs(rowBytes, maxRows);
    this.#accumulate(importance, rows);
    this.#candidates.reset(countCandidates(rows, minRows, maxRows, windows));
    this.#score(rows, minRows, maxRows, windows, latencies);
    this.#take(rows, budgetRows, minRows);
    this.#taken.appendRuns(rows, plan);
  }

  /** Step 2: prefix sums of the importance. */
  #accumulate(importance: Float32Array, rows: number): void {
    const prefix = this.#prefix;
    let sum = 0;
    for (let row = 0; row < rows; row++) prefix[row + 1] = sum += importance[row];
  }

  /** Step 3: all windows with their scores, by size class, then by start. */
  #score(
    rows: number,
    minRows: number,
    maxRows: number,
    windows: WindowRows,
    latencies: Float64Array,
  ): void {
    const prefix = this.#prefix;
    const { starts, sizes, scores } = this.#candidates;
    const scale = scoreScale(prefix[rows] / latencies[minRows]);
    let count = 0;
    for (let size = minRows; size <= maxRows; size += windows.stepRows) {
      const stride = Math.min(size, windows.jumpRows);
      // The scale is a power of two, so dividing by it is exact.
      const cost = latencies[size] / scale;
      for (let start = 0; start + size <= rows; start += stride) {
        scores[count] = (prefix[start + size] - prefix[start]) / cost;
        starts[count] = start;
        sizes[count++] = size;
      }
    }
    this.#candidates.count = count;
  }

  /** Steps 4 and 5: by descending score, take what overlaps nothing taken and fits. */
  #take(rows: number, budgetRows: number, minRows: number): void {
    const candidates = this.#candidates;
    const { starts, sizes, order, bucketEnds } = candidates;
    const taken = this.#taken;
    taken.clear(rows);
    candidates.spread();
    let left = budgetRows;
    let from = 0;
    for (let bucket = 0; bucket < candidates.bucketCount; bucket++) {
      const end = bucketEnds[bucket];
      const to = this.#dropUnusable(from, end, left);
      candidates.sort(from, to);
      for (let slot = from; slot < to; slot++) {
        const ordinal = order[slot];
        const size = sizes[ordinal];
        if (size > left || taken.overlaps(starts[ordinal], size)) continue;
        taken.add(starts[ordinal], size);
        left -= size;
        if (left < minRows) return;
      }
      from = end;
    }
  }

  /**
   * Moves the windows of `order[from .. end - 1]` that can still be taken to its front and returns their end.
   * What cannot be taken now never can: rows are only ever added, and the budget only shrinks.
   */
  #dropUnusable(from: number, end: number, left: number): number {
    const { starts, sizes, order, orderBits } = this.#candidates;
    let to = from;
    for (let slot = from; slot < end; slot++) {
      const ordinal = order[slot];
      const size = sizes[ordinal];
      if (size > left || this.#taken.overlaps(starts[ordinal], size)) continue;
      order[to] = ordinal;
      orderBits[to++] = orderBits[slot];
    }
    return to;
  }
}

/**
 * A power of two that brings the best possible score near 2^100: ratios that single precision would lose to
 * underflow or overflow (tiny or huge importances) keep their order, and no score changes by rounding.
 */
function scoreScale(bestScore: number): number {
  if (bestScore === 0) return 1;
  return 2 ** (TOP_SCORE_EXPONENT - Math.ceil(Math.log2(bestScore)));
}

function countCandidates(
  rows: number,
  minRows: number,
  maxRows: number,
  windows: WindowRows,
): number {
  let count = 0;
  for (let size = minRows; size <= maxRows; size += windows.stepRows) {
    count += Math.floor((rows - size) / Math.min(size, windows.jumpRows)) + 1;
  }
  if (count <= MAX_CANDIDATES) return count;
  throw new ChunkSelectorError("INVALID_HYPERPARAMETERS", {
    path: "hyperparameters",
    expected: `such that at most ${MAX_CANDIDATES} windows are scored`,
    got: `${count} windows for ${rows} rows`,
    remedy: "Raise stepKiB, jumpKiB or minKiB.",
  });
}
