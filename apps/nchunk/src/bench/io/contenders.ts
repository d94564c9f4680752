import {
  createSelector,
  type SelectionRequest,
  type Selector,
} from "@neuron-chunking/chunk-selector";
import type { LatencyTable } from "@neuron-chunking/latency-model";
import { leastChunkBudget, leastTopkRows, planImportance } from "./equal-importance";

export const IO_POLICIES = ["topk", "chunk", "lagrange"] as const;
export type IoPolicy = (typeof IO_POLICIES)[number];

/**
 * Order of the rows, and what sets the importance to reach:
 *
 * - `original`, `hotCold`: what Algorithm 1 keeps of the input in that order;
 * - `hotColdAtOriginal`: hot-cold order, with the target of `original`, so that the two orders can be compared.
 */
export const ARRANGEMENTS = ["original", "hotCold", "hotColdAtOriginal"] as const;
export type Arrangement = (typeof ARRANGEMENTS)[number];

/** One way to get an input's rows from flash; its selector is its own, so that each is as warm as the others. */
export interface Contender {
  readonly policy: IoPolicy;
  readonly arrangement: Arrangement;
  /** Whether the reader may read short gaps through. */
  readonly readThrough: boolean;
  readonly selector: Selector;
}

/** The name under which {@link createContenders} lists a contender. */
export function contenderKey(
  policy: IoPolicy,
  arrangement: Arrangement,
  readThrough = true,
): string {
  return `${policy} ${arrangement}${readThrough ? "" : " plain"}`;
}

/** All of them by key, for matrices of up to `maxRows` rows. */
export function createContenders(maxRows: number): ReadonlyMap<string, Contender> {
  const contenders = new Map<string, Contender>();
  const add = (policy: IoPolicy, arrangement: Arrangement, readThrough: boolean): void => {
    const selector = createSelector(policy, { maxRows });
    const key = contenderKey(policy, arrangement, readThrough);
    contenders.set(key, { policy, arrangement, readThrough, selector });
  };
  for (const arrangement of ARRANGEMENTS) {
    for (const policy of IO_POLICIES) add(policy, arrangement, true);
    // As the paper's baseline reads: one request for each run of rows.
    if (arrangement !== "hotColdAtOriginal") add("topk", arrangement, false);
  }
  return contenders;
}

/** One input in both orders. */
export interface InputPair {
  readonly original: Float32Array;
  readonly hotCold: Float32Array;
}

/** What every selection from one matrix has in common. */
export interface MatrixQuery {
  readonly rows: number;
  readonly rowBytes: number;
  /** Row budget of Algorithm 1, which sets the target. */
  readonly budgetRows: number;
  readonly tables: PolicyTables;
}

/** What each policy believes that reads cost. */
export interface PolicyTables {
  /** The paper's `T[s]`. */
  readonly chunk: LatencyTable;
  /** What a request adds to a batch of this reader. */
  readonly lagrange: LatencyTable;
}

/** An input with what each policy must be given to reach the same importance. */
export interface EqualTask {
  readonly importance: Float32Array;
  /** Absolute sum. */
  readonly target: number;
  readonly requests: Readonly<Record<IoPolicy, SelectionRequest>>;
}

/**
 * Makes the tasks of one input. Not timed: how a caller comes by its budget is no part of a selection.
 *
 * @param planner An Algorithm 1 that no contender uses.
 */
export function equalTasks(
  pair: InputPair,
  query: MatrixQuery,
  planner: Selector,
): Record<Arrangement, EqualTask> {
  const { rows, rowBytes, budgetRows, tables } = query;
  const requestOf = (importance: Float32Array): SelectionRequest & { budgetRows: number } => ({
    ...{ importance, rows, rowBytes, budgetRows, table: tables.chunk },
  });
  const taskOf = (importance: Float32Array, target: number, chunkRows: number): EqualTask => {
    const request = requestOf(importance);
    const requests = {
      topk: { ...request, budgetRows: leastTopkRows(importance, target) },
      chunk: { ...request, budgetRows: chunkRows },
      lagrange: { importance, rows, rowBytes, table: tables.lagrange, importanceTarget: target },
    };
    return { importance, target, requests };
  };
  const kept = (importance: Float32Array): number =>
    planImportance(planner.select(requestOf(importance)), importance);
  const originalTarget = kept(pair.original);
  const fewerRows = leastChunkBudget(planner, requestOf(pair.hotCold), originalTarget);
  return {
    original: taskOf(pair.original, originalTarget, budgetRows),
    hotCold: taskOf(pair.hotCold, kept(pair.hotCold), budgetRows),
    hotColdAtOriginal: taskOf(pair.hotCold, originalTarget, fewerRows),
  };
}
