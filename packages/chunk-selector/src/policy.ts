import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import type { ChunkHyperparameters } from "./hyperparameters.js";

/**
 * The selection policies.
 *
 * - `dense`: every row; exact.
 * - `topk`: the `budgetRows` most important rows, wherever they lie; the paper's baseline.
 * - `threshold`: the rows whose importance is at least `threshold`.
 * - `chunk`: the paper's Algorithm 1, whole chunks by importance per unit of read time.
 */
export const POLICY_NAMES = Object.freeze(["dense", "topk", "threshold", "chunk"] as const);

/** Name of a policy. */
export type PolicyName = (typeof POLICY_NAMES)[number];

/** What to select from, and under which limits. Nothing in it is kept or modified. */
export interface SelectionRequest {
  /** Importance of each row in stored order, `[rows]`, finite and at least 0. Not read by `dense`. */
  readonly importance: Float32Array;
  /** Rows of the projection, from 0 to the selector's `maxRows`. */
  readonly rows: number;
  /** Most rows to select, an integer of at least 0. Needed by `topk` and `chunk`. */
  readonly budgetRows?: number;
  /** Least importance of a kept row, finite and at least 0. Needed by `threshold`. */
  readonly threshold?: number;
  /** Bytes of one row, an integer of at least 1. Used by `chunk`. */
  readonly rowBytes: number;
  /** Read latencies of the device. Needed by `chunk`. */
  readonly table?: LatencyTable;
  /** Chunk sizes to try; `defaultHyperparameters` for the shape and the table when absent. Used by `chunk`. */
  readonly hyperparameters?: ChunkHyperparameters;
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
