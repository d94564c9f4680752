import {
  createSelector,
  type SelectionRequest,
  type Selector,
} from "@neuron-chunking/chunk-selector";
import type { LatencyTable } from "@neuron-chunking/latency-model";
import { highestPrice, leastChunkBudget, leastTopkRows, planImportance } from "./equal-importance";

export const IO_POLICIES = ["topk", "chunk", "lagrange"] as const;
export type IoPolicy = (typeof IO_POLICIES)[number];

/**
 * How a contender selects: by a policy, or `price`: lagrange at a fixed price, in one pass. Lagrange itself solves for the
 * importance, which top-k and Algorithm 1 need not: they are told the row budget that reaches it.
 */
export type Way = IoPolicy | "price";

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
  readonly way: Way;
  readonly arrangement: Arrangement;
  /** Whether the reader may read short gaps through. */
  readonly readThrough: boolean;
  readonly selector: Selector;
}

/** The name under which {@link createContenders} lists a contender. */
export function contenderKey(way: Way, arrangement: Arrangement, readThrough = true): string {
  return `${way} ${arrangement}${readThrough ? "" : " plain"}`;
}

/** All of them by key, for matrices of up to `maxRows` rows. */
export function createContenders(maxRows: number): ReadonlyMap<string, Contender> {
  const contenders = new Map<string, Contender>();
  const add = (way: Way, arrangement: Arrangement, readThrough = true): void => {
    const selector = createSelector(way === "price" ? "lagrange" : way, { maxRows });
    const key = contenderKey(way, arrangement, readThrough);
    contenders.set(key, { way, arrangement, readThrough, selector });
  };
  for (const arrangement of ARRANGEMENTS) {
    for (const policy of IO_POLICIES) add(policy, arrangement);
    add("price", arrangement);
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
  /** Prices of the matrix's last input, where the search for this one's begins; written. */
  readonly lastPrices: Partial<Record<Arrangement, number>>;
}

/** What each policy believes that reads cost. */
export interface PolicyTables {
  /** The paper's `T[s]`. */
  readonly chunk: LatencyTable;
  /** What a request adds to a batch of this reader. */
  readonly lagrange: LatencyTable;
}

/** Selectors of no contender, to find what each must be given. */
export interface Planners {
  readonly chunk: Selector;
  readonly lagrange: Selector;
}

export const createPlanners = (maxRows: number): Planners => ({
  chunk: createSelector("chunk", { maxRows }),
  lagrange: createSelector("lagrange", { maxRows }),
});

/** An input with what each way must be given to reach the same importance. */
export interface EqualTask {
  readonly importance: Float32Array;
  /** Absolute sum. */
  readonly target: number;
  readonly requests: Readonly<Record<Way, SelectionRequest>>;
}

/** Makes the tasks of one input. Not timed: how a caller comes by its budget or price is no part of a selection. */
export function equalTasks(
  pair: InputPair,
  query: MatrixQuery,
  planners: Planners,
): Record<Arrangement, EqualTask> {
  const { rows, rowBytes, budgetRows, tables, lastPrices } = query;
  const requestOf = (importance: Float32Array): SelectionRequest & { budgetRows: number } => ({
    ...{ importance, rows, rowBytes, budgetRows, table: tables.chunk },
  });
  const taskOf = (
    arrangement: Arrangement,
    importance: Float32Array,
    { target, chunkRows }: { target: number; chunkRows: number },
  ): EqualTask => {
    const request = requestOf(importance);
    const priced = { importance, rows, rowBytes, table: tables.lagrange };
    const near = lastPrices[arrangement];
    const pricePerNs = highestPrice(planners.lagrange, priced, target, near);
    lastPrices[arrangement] = pricePerNs;
    const requests = {
      topk: { ...request, budgetRows: leastTopkRows(importance, target) },
      chunk: { ...request, budgetRows: chunkRows },
      lagrange: { ...priced, importanceTarget: target, effort: "quick" as const },
      price: { ...priced, pricePerNs },
    };
    return { importance, target, requests };
  };
  const { original, hotCold } = pair;
  const kept = (importance: Float32Array): number =>
    planImportance(planners.chunk.select(requestOf(importance)), importance);
  const target = kept(original);
  const fewerRows = leastChunkBudget(planners.chunk, requestOf(hotCold), target);
  return {
    original: taskOf("original", original, { target, chunkRows: budgetRows }),
    hotCold: taskOf("hotCold", hotCold, { target: kept(hotCold), chunkRows: budgetRows }),
    hotColdAtOriginal: taskOf("hotColdAtOriginal", hotCold, { target, chunkRows: fewerRows }),
  };
}
