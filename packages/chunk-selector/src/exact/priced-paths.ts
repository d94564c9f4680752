import { spliceBest } from "./splice.js";
import { sumRuns, type RunList, type RunProblem } from "./run-problem.js";

/**
 * The shortest paths of a {@link RunProblem} when importance is paid for: an arc costs its latency less
 * `price` (ns per unit) times its importance. With `P` the prefix sums and `T` the latency by run length,
 *
 *     toEnd(i) = min( toEnd(i + 1), min over j > i of T(j - i) - price (P(j) - P(i)) + toEnd(j + 1) )
 *
 * and the same from the start. A run of at least `tailRows` costs `tailNsPerRow` per row, so that the best of them is
 * a running minimum: O(rows * tailRows) time, O(rows) memory, exact for any table.
 *
 * Whatever the price, `latency so far + price (needed - importance so far) + toEnd(node)` is at most the latency of
 * any way to complete that partial plan to the needed importance (Lagrangian relaxation): a lower bound.
 */
export class PricedPaths {
  /** Least cost from each node to the end, ns, `[rows + 2]`. */
  readonly toEnd: Float64Array;
  /** Next node on the way there. */
  readonly next: Int32Array;
  /** Importance and latency of that way. */
  readonly importanceToEnd: Float64Array;
  readonly latencyToEnd: Float64Array;

  constructor(
    readonly problem: RunProblem,
    readonly price: number,
  ) {
    const { rows } = problem;
    this.toEnd = new Float64Array(rows + 2);
    this.next = new Int32Array(rows + 2);
    this.importanceToEnd = new Float64Array(rows + 2);
    this.latencyToEnd = new Float64Array(rows + 2);
    this.#solve();
  }

  /**
   * By how much rounding may have raised a bound on plans faster than `limitNs`, ns. Such a plan has no more runs
   * than fit into that latency, and each run adds five roundings of terms no larger than the scale.
   */
  slackNs(limitNs: number): number {
    const { rows, runNs, prefix } = this.problem;
    const maxRuns = Math.min(rows, limitNs / runNs[1]);
    const scale = 2 * this.price * prefix[rows] + runNs[rows];
    return 3 * (maxRuns + 2) * Number.EPSILON * scale;
  }

  /** Lower bound on the latency of any plan with the needed importance that is faster than `limitNs`, ns. */
  boundNs(limitNs: number): number {
    return this.toEnd[0] + this.price * this.problem.needed - this.slackNs(limitNs);
  }

  #solve(): void {
    const { toEnd, next, importanceToEnd, latencyToEnd, price } = this;
    const { rows, runNs, prefix, tailRows, tailNsPerRow } = this.problem;
    /** What follows a run that ends before row `j`, less the price of all rows before `j`. */
    const afterRun = new Float64Array(rows + 1);
    next[rows] = rows + 1;
    afterRun[rows] = -price * prefix[rows];
    // Of the long runs: the best end, and its cost as if they began at row 0.
    let longNs = Infinity;
    let longEnd = rows;
    for (let node = rows - 1; node >= 0; node--) {
      const firstLong = node + tailRows;
      if (firstLong <= rows) {
        const cost = tailNsPerRow * firstLong + afterRun[firstLong];
        if (cost < longNs) {
          longNs = cost;
          longEnd = firstLong;
        }
      }
      let least = longNs - tailNsPerRow * node;
      let end = longEnd;
      const lastShort = Math.min(rows, firstLong - 1);
      for (let row = node + 1; row <= lastShort; row++) {
        const cost = runNs[row - node] + afterRun[row];
        if (cost < least) {
          least = cost;
          end = row;
        }
      }
      least += price * prefix[node];
      const isRun = least < toEnd[node + 1];
      const to = isRun ? end + 1 : node + 1;
      toEnd[node] = isRun ? least : toEnd[to];
      next[node] = to;
      importanceToEnd[node] = importanceToEnd[to] + prefix[to - 1] - prefix[node];
      latencyToEnd[node] = latencyToEnd[to] + runNs[to - 1 - node];
      afterRun[node] = toEnd[node + 1] - price * prefix[node];
    }
  }

  /** Least cost from the start to each node, ns, `[rows + 2]`; a new array. */
  fromStart(): Float64Array {
    const { rows, runNs, prefix, tailRows, tailNsPerRow } = this.problem;
    const { price } = this;
    const cost = new Float64Array(rows + 2);
    /** What precedes a run that starts at row `i`, plus the price of all rows before `i`. */
    const beforeRun = new Float64Array(rows + 1);
    let longNs = Infinity;
    for (let node = 1; node <= rows + 1; node++) {
      const end = node - 1;
      beforeRun[end] = cost[end] + price * prefix[end];
      const lastLong = end - tailRows;
      if (lastLong >= 0) longNs = Math.min(longNs, beforeRun[lastLong] - tailNsPerRow * lastLong);
      let least = longNs + tailNsPerRow * end;
      for (let row = Math.max(0, lastLong + 1); row < end; row++) {
        const through = beforeRun[row] + runNs[end - row];
        if (through < least) least = through;
      }
      cost[node] = Math.min(cost[end], least - price * prefix[end]);
    }
    return cost;
  }

  /** Appends the runs of the best way from `node` to the end, as pairs `start, end`. */
  appendRuns(node: number, pairs: number[]): void {
    const end = this.problem.rows + 1;
    for (let at = node; at !== end; at = this.next[at]) {
      if (this.next[at] > at + 1) pairs.push(at, this.next[at] - 1);
    }
  }
}

/** The best price and what was met on the way to it. */
export interface DualSolution {
  /** The paths at the price with the highest bound. */
  readonly paths: PricedPaths;
  /** The fastest plan met that has the needed importance. */
  readonly best: RunList;
}

/** Handler and Zang's steps end after a few; rounding could make them circle. */
const MAX_PRICE_STEPS = 60;
/** Bounds that rise by less than this share have arrived. */
const PRICE_TOLERANCE = 1e-13;

/**
 * The price with the highest bound, by Handler and Zang's method ("A dual algorithm for the constrained shortest
 * path problem", Networks 10, 1980). A plan is a line in the price, `latency + price (needed - importance)`, and the
 * bound is the lower envelope of all lines, a concave function. Step to where the best known rising line (a plan
 * short of importance) and falling line (a plan with enough) cross; the plan that is lowest there replaces one of
 * them, until none is lower: that crossing is the maximum.
 */
export function solveDual(problem: RunProblem): DualSolution {
  const { rows, needed } = problem;
  let best = sumRuns(problem, [0, rows]);
  let enough = best;
  let short = sumRuns(problem, []);
  let highest: PricedPaths | undefined;
  for (let step = 0; step < MAX_PRICE_STEPS; step++) {
    const price = (enough.latencyNs - short.latencyNs) / (enough.importance - short.importance);
    if (highest !== undefined && !Number.isFinite(price)) break;
    const paths = new PricedPaths(problem, price);
    if (highest === undefined || paths.boundNs(best.latencyNs) > highest.boundNs(best.latencyNs))
      highest = paths;
    const pairs: number[] = [];
    paths.appendRuns(0, pairs);
    const plan = sumRuns(problem, pairs);
    const isEnough = plan.importance >= needed;
    if (isEnough && plan.latencyNs < best.latencyNs) best = plan;
    const crossing = enough.latencyNs + price * (needed - enough.importance);
    const reached = plan.latencyNs + price * (needed - plan.importance);
    if (!(reached < crossing - PRICE_TOLERANCE * crossing)) break;
    if (isEnough) enough = plan;
    else short = plan;
  }
  for (const [left, right] of [
    [enough, short],
    [short, enough],
  ]) {
    const plan = spliceBest(problem, left, right);
    if (plan !== undefined && plan.latencyNs < best.latencyNs) best = plan;
  }
  return { paths: highest as PricedPaths, best };
}
