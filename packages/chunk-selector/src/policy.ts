import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import type { ChunkHyperparameters } from "./hyperparameters.js";

/**
 * The selection policies.
 *
 * - `dense`: every row; exact.
 * - `topk`: the `budgetRows` most important rows, wherever they lie; the paper's baseline.
 * - `threshold`: the rows whose importance is at least `threshold`.
 * - `chunk`: the paper's Algorithm 1, whole chunks by importance per unit of read time.
 * - `lagrange`: chunks by one price for read time, optimal at that price; for a price, a latency, an importance or a number
 *   of rows.
 */
export const POLICY_NAMES = Object.freeze([
  "dense",
  "topk",
  "threshold",
  "chunk",
  "lagrange",
] as const);

/** Name of a policy. */
export type PolicyName = (typeof POLICY_NAMES)[number];

/** What to select from, and under which limits. Nothing in it is kept or modified. */
export interface SelectionRequest {
  /** Importance of each row in stored order, `[rows]`, finite and at least 0. Not read by `dense`. */
  readonly importance: Float32Array;
  /** Rows of the projection, from 0 to the selector's `maxRows`. */
  readonly rows: number;
  /** Most rows to select, an integer of at least 0. Needed by `topk` and `chunk`; one question to `lagrange`. */
  readonly budgetRows?: number;
  /** Least importance of a kept row, finite and at least 0. Needed by `threshold`. */
  readonly threshold?: number;
  /** Bytes of one row, an integer of at least 1. Used by `chunk` and `lagrange`. */
  readonly rowBytes: number;
  /** Read latencies of the device. Needed by `chunk` and `lagrange`. */
  readonly table?: LatencyTable;
  /** Chunk sizes to try; `defaultHyperparameters` for the shape and the table when absent. Used by `chunk`. */
  readonly hyperparameters?: ChunkHyperparameters;

  // One question to `lagrange`: exactly one of these four and `budgetRows`.
  /** The plan that maximises `sum(v) - pricePerNs * L(plan)`: importance that each ns must earn, at least 0. */
  readonly pricePerNs?: number;
  /** Most importance within this modelled latency, ns, at least 0. */
  readonly latencyBudgetNs?: number;
  /** Least latency for at least this sum of importances, from 0 to that of all rows. */
  readonly importanceTarget?: number;
  /** Least latency for at least the importance of the `matchTopkRows` most important rows, an integer of at least 0. */
  readonly matchTopkRows?: number;
  /**
   * `lagrange`: whether to go by every row and every kink of the table, whatever time that takes. By default searches take rows
   * narrower than 4 KiB together, and a long table that two lines and its tail follow within a quarter is searched by those
   * (measured tables carry noise); ends of runs are put right by rows and table. Latencies are always the table's own.
   */
  readonly exactTable?: boolean;
  /**
   * `lagrange`, for an importance: `thorough`, the default, searches plans of a few runs well, which takes up to some
   * milliseconds; `quick` is for a selection before every read.
   */
  readonly effort?: "quick" | "thorough";
  /**
   * A price near which the answer is expected, such as `solution.pricePerNs` of the same matrix's last input; above 0. Makes
   * the search shorter, never its answer worse. Where it is absent, that of the shape's last answer.
   */
  readonly nearPricePerNs?: number;
}

/** One policy with its workspace. Not to be shared between concurrent selections. */
export interface Selector {
  readonly policy: PolicyName;
  /** Most rows that a request may have. */
  readonly maxRows: number;
  /**
   * Selects rows. The plan and its arrays belong to the selector and are valid until its next `select`.
   * Once a shape has been seen, a selection allocates no array and no object.
   *
   * @throws ChunkSelectorError `INVALID_IMPORTANCE`, `INVALID_REQUEST` or `INVALID_HYPERPARAMETERS`.
   */
  select(request: SelectionRequest): ChunkPlan;
}

/** What is known about the last plan of a {@link LagrangeSelector}. */
export interface LagrangeSolution {
  /** Modelled latency of the plan, ns. */
  readonly latencyNs: number;
  /** Sum of the importance of its rows. */
  readonly importance: number;
  /** Number of its rows. */
  readonly rows: number;
  /** The price that led to it, importance per ns: 0 where every row was taken, Infinity where none was. */
  readonly pricePerNs: number;
  /**
   * No plan of at least the importance asked for is faster than this, ns. Known for a price and for an importance where rows
   * and table were followed exactly (see `exactTable`); otherwise 0.
   */
  readonly lowerBoundNs: number;
  /** Passes over the rows that it took. */
  readonly passes: number;
}

/** The policy `lagrange`, which also says how good its plans are. */
export interface LagrangeSelector extends Selector {
  readonly policy: "lagrange";
  /** About the last plan; the same object after each selection. */
  readonly solution: LagrangeSolution;
}
