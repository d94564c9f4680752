/** Plans whose latencies differ by less than this share are equally fast: a difference below it is rounding. */
export const LATENCY_TOLERANCE = 1e-12;
/**
 * Share of the total importance by which a plan may miss the target: a sum of thousands of doubles depends that much
 * on its order. Less than the other, because an importance costs several times its share of the latency.
 */
export const IMPORTANCE_TOLERANCE = 1e-13;

/**
 * Choosing runs as a shortest path. Nodes are `0 .. rows + 1`; the arc `from -> to` selects the rows
 * `from .. to - 2` and leaves row `to - 1` out (row `rows` is none, and always left out). It costs
 * `runNs[to - 1 - from]`, where `runNs[0] = 0`, so skipping one row is an arc too. Because each arc ends with a
 * row left out, the runs of a path from 0 to `rows + 1` are maximal: a path is a plan, and its cost is `L(plan)`,
 * for any table, even one where two short reads cost less than one long.
 */
export interface RunProblem {
  readonly rows: number;
  /** `T` by run length, ns, `[>= rows + 1]`; entry 0 is 0. */
  readonly runNs: Float64Array;
  /** Importance of the rows before each, `[rows + 1]`, summed in double from the left. */
  readonly prefix: Float64Array;
  /** Importance from which a plan is accepted: the target less {@link IMPORTANCE_TOLERANCE} of the total. */
  readonly needed: number;
  /** Runs of at least so many rows cost `tailNsPerRow` per row; `rows + 1` when there are none. */
  readonly tailRows: number;
  readonly tailNsPerRow: number;
}

/**
 * Where the cost of a run becomes proportional to its length, as every table's does past the
 * saturation size. Found from the entries themselves, within rounding.
 */
export function findTail(
  runNs: Float64Array,
  rows: number,
): Pick<RunProblem, "tailRows" | "tailNsPerRow"> {
  const tailNsPerRow = rows === 0 ? 0 : runNs[rows] / rows;
  let tailRows = rows + 1;
  while (tailRows > 1) {
    const expectedNs = tailNsPerRow * (tailRows - 1);
    if (Math.abs(runNs[tailRows - 1] - expectedNs) > 4 * Number.EPSILON * expectedNs) break;
    tailRows--;
  }
  return { tailRows, tailNsPerRow };
}

/** A plan as flat pairs `start, end` of its runs, with both its sums. */
export interface RunList {
  readonly pairs: readonly number[];
  readonly importance: number;
  readonly latencyNs: number;
}

/** The sums of a list of runs, added from the left. */
export function sumRuns(problem: RunProblem, pairs: readonly number[]): RunList {
  let importance = 0;
  let latencyNs = 0;
  for (let index = 0; index < pairs.length; index += 2) {
    importance += problem.prefix[pairs[index + 1]] - problem.prefix[pairs[index]];
    latencyNs += problem.runNs[pairs[index + 1] - pairs[index]];
  }
  return { pairs, importance, latencyNs };
}

/** Latency below which a plan is faster than one of `latencyNs` by more than rounding. */
export function improvementNs(latencyNs: number): number {
  return latencyNs * (1 - LATENCY_TOLERANCE);
}
