import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import { ChunkSelectorError, requireInteger } from "./errors.js";
import { LabelSearch } from "./exact/label-search.js";
import { findLiveArcs } from "./exact/live-arcs.js";
import { PricedPaths, solveDual } from "./exact/priced-paths.js";
import {
  findTail,
  IMPORTANCE_TOLERANCE,
  improvementNs,
  sumRuns,
  type RunList,
  type RunProblem,
} from "./exact/run-problem.js";
import { ImportanceKeys } from "./importance-keys.js";

/** Default for `maxLabels`: some seconds and some hundred megabytes when it is reached. */
const DEFAULT_MAX_LABELS = 20_000_000;

/** Labels kept at each node in the first pass, and the factor from one pass to the next. */
const FIRST_WIDTH = 4;
const WIDTH_FACTOR = 16;

/** Prices on either side of the best one: off by a half at first, then by half as much each. */
const SIDE_PRICES = 10;

/** What {@link exactPlan} is asked. Nothing in it is kept or modified. */
export interface ExactPlanRequest {
  /** Importance of each row in stored order, `[rows]`, finite and at least 0. */
  readonly importance: Float32Array;
  /** Rows of the projection, at least 0. */
  readonly rows: number;
  /** Bytes of one row, an integer of at least 1. */
  readonly rowBytes: number;
  /** Read latencies of the device. */
  readonly table: LatencyTable;
  /** Least sum of importance, from 0 to the sum over all rows. */
  readonly importanceTarget: number;
  /** Most partial plans to make (and runs to keep) before giving up on the proof, at least 1. Default: 20 million. */
  readonly maxLabels?: number;
}

/** What {@link exactPlan} found. */
export interface ExactPlan {
  /** The fastest plan found; its arrays are the caller's. */
  readonly plan: ChunkPlan;
  /** Modelled latency of the plan: the sum of `T` over its chunks, ns. */
  readonly latencyNs: number;
  /** Importance of the plan's rows. */
  readonly importance: number;
  /** Whether no plan of the target's importance is faster. */
  readonly isProven: boolean;
  /** No plan of the target's importance is faster than this, ns; `latencyNs` once that is proven. */
  readonly lowerBoundNs: number;
}

/**
 * The fastest plan with at least `importanceTarget`, with a proof: the least
 * `L(plan) = sum over maximal runs of T[run length]`. An oracle for tests and benchmarks of the policies, in
 * milliseconds to seconds; no policy itself.
 *
 * **Method.** A constrained shortest path (`RunProblem`: nodes are rows that are left out, arcs are runs), solved
 * by closing the gap between a Lagrangian bound and the best plan: Handler and Zang (Networks 10, 1980), Beasley
 * and Christofides (Networks 19, 1989).
 *
 * 1. *Bound.* For any price `p` per unit of importance, with the target relaxed,
 *    `min over all plans of L + p (target - importance) <= optimum`. With `P` the prefix sums of the importance
 *    and `B(rows + 1) = 0`, the minimum is `p target + B(0)` of
 *    `B(i) = min( B(i + 1), min over j > i of T[j - i] - p (P(j) - P(i)) + B(j + 1) )`.
 *    Row `j` is left out after a run `[i, j)`, so runs are maximal and this holds for any table: concave, with
 *    kinks or jumps, or where two reads are faster than one. The best `p` is found exactly, in a few steps; the
 *    first plan is spliced from the two that are optimal there.
 * 2. *Fixing.* Runs through which even the relaxed optimum is no faster than the best plan known are struck out.
 * 3. *Labels.* From left to right, a partial plan is kept if no other that ends at the same row is as good in both
 *    measures, and if its bound, `L so far + max over prices of p (target - importance so far) + B(row)`, is below
 *    the best plan known. Each is completed along the relaxed optimum at each price, for better plans early.
 * 4. *Widening.* The first pass keeps a few labels at each row. If one that was left out could still win, a wider
 *    pass follows, with fewer runs, as the best plan is better by then.
 *
 * **Why it is exact.** What is dropped cannot win: a label beaten at its row, because what can follow depends on the
 * row alone; a label or run by its bound, because no completion that reaches the target is faster than that. When
 * nothing left out for width has a bound below the best plan, no plan is faster.
 *
 * **Cost.** `O(rows m)` per price (`m` rows to saturation), at most `O(rows^2)` per pass to strike out runs, then the
 * labels, whose number grows with the gap that the bound leaves. It can be exponential: past `maxLabels` the best
 * plan so far is returned with `isProven: false` and the best bound. Memory follows `maxLabels`. The gap is widest
 * where nearly equal rows leave many nearly equal plans.
 *
 * **Accuracy.** A plan short of the target by less than 1e-13 of the total importance counts as reaching it; plans
 * whose latencies differ by less than 1e-12 of the optimum count as equal. Sums of doubles carry no more.
 *
 * **Not covered.** Row budgets, and latency that is no sum over chunks (lanes, batches).
 *
 * @throws ChunkSelectorError `INVALID_IMPORTANCE`, or `INVALID_REQUEST`, also for a target above the total.
 */
export function exactPlan(request: ExactPlanRequest): ExactPlan {
  const problem = toProblem(request);
  if (problem.needed <= 0) return answer(sumRuns(problem, []), 0);
  return closeGap(problem, request.maxLabels ?? DEFAULT_MAX_LABELS);
}

function closeGap(problem: RunProblem, maxLabels: number): ExactPlan {
  const { paths, best } = solveDual(problem);
  let lowerBoundNs = Math.max(0, paths.boundNs(best.latencyNs));
  if (lowerBoundNs >= improvementNs(best.latencyNs)) return answer(best, best.latencyNs);
  const prices = [paths, ...pricesAround(paths)];
  const fromStart = prices.map((priced) => priced.fromStart());
  const search = new LabelSearch(problem, prices, best, maxLabels);
  for (let width = FIRST_WIDTH; lowerBoundNs < search.limitNs; width *= WIDTH_FACTOR) {
    const arcs = findLiveArcs(prices, fromStart, search.limitNs, maxLabels);
    const result = arcs === undefined ? undefined : search.pass(arcs, width);
    if (!result?.isComplete) return answer(search.best, Math.min(lowerBoundNs, search.limitNs));
    lowerBoundNs = Math.max(lowerBoundNs, result.leftOutBoundNs);
  }
  return answer(search.best, search.best.latencyNs);
}

/**
 * Labels that are ahead or behind in importance are bounded best by a lower or higher price; most are close to the
 * best plan, and the prices with them.
 */
function pricesAround({ problem, price }: PricedPaths): PricedPaths[] {
  const prices: PricedPaths[] = [];
  for (let side = 1; side <= SIDE_PRICES; side++) {
    const factor = 1 - 2 ** -side;
    prices.push(new PricedPaths(problem, price * factor), new PricedPaths(problem, price / factor));
  }
  return prices;
}

function answer({ pairs, importance, latencyNs }: RunList, lowerBoundNs: number): ExactPlan {
  const chunkCount = pairs.length / 2;
  const starts = new Uint32Array(chunkCount);
  const lengths = new Uint32Array(chunkCount);
  for (let chunk = 0; chunk < chunkCount; chunk++) {
    starts[chunk] = pairs[2 * chunk];
    lengths[chunk] = pairs[2 * chunk + 1] - pairs[2 * chunk];
  }
  const plan = { starts, lengths, chunkCount };
  return { plan, latencyNs, importance, isProven: lowerBoundNs >= latencyNs, lowerBoundNs };
}

function toProblem(request: ExactPlanRequest): RunProblem {
  const { rows, rowBytes, table, importanceTarget, maxLabels } = request;
  requireInteger(rows, "rows", 0);
  requireInteger(rowBytes, "rowBytes", 1);
  if (maxLabels !== undefined) requireInteger(maxLabels, "maxLabels", 1);
  const keys = new ImportanceKeys(rows);
  keys.load(request.importance, rows);
  const prefix = new Float64Array(rows + 1);
  for (let row = 0; row < rows; row++) prefix[row + 1] = prefix[row] + keys.values[row];
  const needed = importanceTarget - IMPORTANCE_TOLERANCE * prefix[rows];
  if (!(importanceTarget >= 0 && needed <= prefix[rows])) {
    throw new ChunkSelectorError("INVALID_REQUEST", {
      path: "importanceTarget",
      expected: `between 0 and the sum of the importance (${prefix[rows]})`,
      got: String(importanceTarget),
      remedy: "It is an absolute sum: multiply a share by the sum of the importance.",
    });
  }
  const runNs = table.rowLatencyNs(rowBytes, rows);
  return { rows, runNs, prefix, needed, ...findTail(runNs, rows) };
}
