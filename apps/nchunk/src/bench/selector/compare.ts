import {
  budgetRows,
  createSelector,
  exactPlan,
  type SelectionRequest,
} from "@neuron-chunking/chunk-selector";
import {
  estimatePlanNs,
  selectedRows,
  validatePlan,
  type ChunkPlan,
  type LatencyTable,
} from "@neuron-chunking/latency-model";
import { NchunkError } from "../../errors";
import type { MatrixShape } from "./effort";
import type { BenchInput } from "./inputs";

/**
 * Sums of the same importances in another order differ by rounding; a plan that is short by no more than this share is as
 * important as the other.
 */
export const ROUNDING = 1e-12;

/** What one policy selects for a case; latency by the table, `sum of T[length]`. */
export interface PolicyOutcome {
  readonly latencyNs: number;
  readonly rows: number;
  readonly chunks: number;
}

/** What the exact search found out. */
export interface ExactOutcome {
  /** Whether `latencyNs` is the least there is; else the search was given up. */
  readonly isProven: boolean;
  readonly latencyNs: number;
  /** No plan of that importance is faster. */
  readonly lowerBoundNs: number;
}

/** All policies at the importance of Algorithm 1's plan for one matrix, input, device and row budget. */
export interface SelectorCase {
  readonly kind: BenchInput["kind"];
  readonly device: string;
  readonly rows: number;
  readonly cols: number;
  readonly rowBytes: number;
  readonly order: BenchInput["order"];
  readonly variation: number | null;
  /** Share of the rows that Algorithm 1 may take. */
  readonly keep: number;
  /** Share of the total importance that its plan has, and so every other plan too. */
  readonly importance: number;
  /** The same as a sum, less what rounding may take: what the others are asked for. */
  readonly importanceTarget: number;
  /** Reading every row in one go; exact, so no rival at equal importance. */
  readonly denseNs: number;
  readonly topk: PolicyOutcome;
  readonly chunk: PolicyOutcome;
  readonly lagrange: PolicyOutcome;
  readonly exact: ExactOutcome | null;
  /** Modelled latency of `lagrange` over Algorithm 1's. */
  readonly lagrangeToChunk: number;
  /** Over the better of top-k and Algorithm 1. */
  readonly lagrangeToBest: number;
  /** Over the optimum; null where that was not searched for or not proven. */
  readonly lagrangeToExact: number | null;
  /** Over a bound that no plan can be under, by the selector's own account; null where it knows of none. */
  readonly lagrangeToBound: number | null;
}

/** To a picosecond: the same chunks in another order must not differ by the rounding of their sum. */
const roundNs = (latencyNs: number): number => Math.round(1e3 * latencyNs) / 1e3;

/** Ratio of two latencies; nothing compares with nothing as equal. */
function ratio(latencyNs: number, otherNs: number): number {
  if (otherNs > 0) return latencyNs / otherNs;
  return latencyNs === 0 ? 1 : Number.MAX_VALUE;
}

export function importanceOfPlan(plan: ChunkPlan, importance: Float32Array): number {
  let sum = 0;
  for (let chunk = 0; chunk < plan.chunkCount; chunk += 1) {
    const end = plan.starts[chunk] + plan.lengths[chunk];
    for (let row = plan.starts[chunk]; row < end; row += 1) sum += importance[row];
  }
  return sum;
}

/** The least `k` whose `k` largest importances reach the target; all rows if rounding keeps even them below. */
export function leastRows(largestSums: Float64Array, target: number): number {
  let low = 0;
  let high = largestSums.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (largestSums[middle] >= target) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Compares the policies on matrices of one shape; keeps a selector of each between the cases. */
export class Comparison {
  readonly #topk;
  readonly #chunk;
  readonly #lagrange;

  constructor(readonly shape: MatrixShape) {
    const room = { maxRows: shape.rows };
    this.#topk = createSelector("topk", room);
    this.#chunk = createSelector("chunk", room);
    this.#lagrange = createSelector("lagrange", room);
  }

  /**
   * @throws NchunkError `BENCH_FAILED` when a plan is malformed or less important than it has to be.
   */
  compare(input: BenchInput, table: LatencyTable, keep: number): SelectorCase {
    const { shape } = this;
    const { importance } = input;
    const request: SelectionRequest = {
      importance,
      table,
      rows: shape.rows,
      rowBytes: shape.rowBytes,
    };
    const budget = budgetRows(shape.rows, 1 - keep);
    const chunkPlan = this.#chunk.select({ ...request, budgetRows: budget });
    const chunk = this.#outcome("chunk", chunkPlan, input, table, 0);
    const reached = importanceOfPlan(chunkPlan, importance);
    const target = reached * (1 - ROUNDING);
    const topkRows = leastRows(input.largestSums, target);
    const topkPlan = this.#topk.select({ ...request, budgetRows: topkRows });
    const topk = this.#outcome("topk", topkPlan, input, table, target);
    const lagrangePlan = this.#lagrange.select({ ...request, importanceTarget: target });
    const lagrange = this.#outcome("lagrange", lagrangePlan, input, table, target);
    const { lowerBoundNs } = this.#lagrange.solution;
    const total = input.largestSums[shape.rows];
    return {
      kind: input.kind,
      device: table.name,
      ...shape,
      order: input.order,
      variation: input.variation,
      keep,
      importance: total === 0 ? 1 : reached / total,
      importanceTarget: target,
      denseNs: roundNs(table.latencyNs(shape.rows * shape.rowBytes)),
      topk,
      chunk,
      lagrange,
      exact: null,
      lagrangeToChunk: ratio(lagrange.latencyNs, chunk.latencyNs),
      lagrangeToBest: ratio(lagrange.latencyNs, Math.min(chunk.latencyNs, topk.latencyNs)),
      lagrangeToExact: null,
      lagrangeToBound: lowerBoundNs > 0 ? ratio(lagrange.latencyNs, roundNs(lowerBoundNs)) : null,
    };
  }

  /** Latency and importance are taken from the plan itself, never from what a selector says of it. */
  #outcome(
    policy: string,
    plan: ChunkPlan,
    { importance, order, variation }: BenchInput,
    table: LatencyTable,
    target: number,
  ): PolicyOutcome {
    const { rows, rowBytes } = this.shape;
    validatePlan(plan, rows);
    const reached = importanceOfPlan(plan, importance);
    if (reached < target * (1 - ROUNDING)) {
      throw new NchunkError(
        "BENCH_FAILED",
        `${policy} selected rows of importance ${reached} instead of ${target} (${rows} rows of ${rowBytes} B, ` +
          `${order}, variation ${variation}, ${table.name}). This is a bug; please report it.`,
      );
    }
    return {
      latencyNs: roundNs(estimatePlanNs(plan, rowBytes, table)),
      rows: selectedRows(plan),
      chunks: plan.chunkCount,
    };
  }
}

/**
 * A case with what the exact search finds out about it.
 *
 * @param importance of the case.
 * @param maxLabels Most partial plans to make before giving up.
 */
export function withExact(
  one: SelectorCase,
  importance: Float32Array,
  table: LatencyTable,
  maxLabels: number,
): SelectorCase {
  const { rows, rowBytes, importanceTarget } = one;
  const request = { importance, rows, rowBytes, table, importanceTarget, maxLabels };
  const found = exactPlan(request);
  const { isProven } = found;
  const [latencyNs, lowerBoundNs] = [found.latencyNs, found.lowerBoundNs].map(roundNs);
  const lagrangeToExact = isProven ? ratio(one.lagrange.latencyNs, latencyNs) : null;
  return { ...one, exact: { isProven, latencyNs, lowerBoundNs }, lagrangeToExact };
}
