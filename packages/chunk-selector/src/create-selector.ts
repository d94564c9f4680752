import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import { ChunkSelectorError, requireInteger } from "./errors.js";
import { GreedyChunks } from "./greedy-chunks.js";
import { defaultHyperparameters, windowRows, type WindowRows } from "./hyperparameters.js";
import type { ChunkHyperparameters } from "./hyperparameters.js";
import { ImportanceKeys, leastBitsAtLeast } from "./importance-keys.js";
import { PlanBuilder } from "./plan-builder.js";
import { PricedSelector } from "./lagrange/lagrange-selector.js";
import {
  POLICY_NAMES,
  type LagrangeSelector,
  type PolicyName,
  type SelectionRequest,
  type Selector,
} from "./policy.js";
import { requireBudget, requireRows, requireTable, requireThreshold } from "./requests.js";
import { RowSet } from "./row-set.js";
import { TopkSelection } from "./topk.js";

/** Rows are stored as 32-bit unsigned integers; selectors index bits of row sets with signed 32-bit ones. */
const MAX_SELECTOR_ROWS = 0x7fff_ffff;

/**
 * A selector for one policy. Its workspace is allocated here and at the first request of each shape; later
 * selections allocate no array and no object.
 *
 * @param policy One of {@link POLICY_NAMES}.
 * @param options `maxRows`: most rows that a request will have, at least 1.
 * @throws ChunkSelectorError `UNKNOWN_POLICY` or `INVALID_REQUEST`.
 */
export function createSelector(policy: "lagrange", options: { maxRows: number }): LagrangeSelector;
export function createSelector(policy: PolicyName, options: { maxRows: number }): Selector;
export function createSelector(policy: PolicyName, options: { maxRows: number }): Selector {
  requireInteger(options.maxRows, "maxRows", 1);
  if (options.maxRows > MAX_SELECTOR_ROWS) {
    throw new ChunkSelectorError("INVALID_REQUEST", {
      path: "maxRows",
      expected: `at most ${MAX_SELECTOR_ROWS}`,
      got: String(options.maxRows),
    });
  }
  switch (policy) {
    case "dense":
      return new DenseSelector(options.maxRows);
    case "topk":
      return new TopkSelector(options.maxRows);
    case "threshold":
      return new ThresholdSelector(options.maxRows);
    case "chunk":
      return new ChunkSelector(options.maxRows);
    case "lagrange":
      return new PricedSelector(options.maxRows);
    default:
      throw new ChunkSelectorError("UNKNOWN_POLICY", {
        path: "policy",
        expected: `one of ${POLICY_NAMES.join(", ")}`,
        got: JSON.stringify(policy) ?? "nothing",
      });
  }
}

class DenseSelector implements Selector {
  readonly policy = "dense";
  readonly #plan = new PlanBuilder(1);

  constructor(readonly maxRows: number) {}

  select(request: SelectionRequest): ChunkPlan {
    requireRows(request, this.maxRows);
    return this.#plan.fillDense(request.rows);
  }
}

class TopkSelector implements Selector {
  readonly policy = "topk";
  readonly #keys: ImportanceKeys;
  readonly #selection: TopkSelection;
  readonly #plan: PlanBuilder;

  constructor(readonly maxRows: number) {
    this.#keys = new ImportanceKeys(maxRows);
    this.#selection = new TopkSelection(this.#keys, maxRows);
    this.#plan = new PlanBuilder(maxRows);
  }

  select(request: SelectionRequest): ChunkPlan {
    const { importance, rows } = request;
    requireRows(request, this.maxRows);
    const budget = requireBudget(request);
    this.#keys.load(importance, rows);
    if (budget >= rows) return this.#plan.fillDense(rows);
    this.#plan.clear();
    if (budget > 0) this.#selection.addLargest(rows, budget, this.#plan);
    return this.#plan;
  }
}

class ThresholdSelector implements Selector {
  readonly policy = "threshold";
  readonly #keys: ImportanceKeys;
  readonly #rows: RowSet;
  readonly #plan: PlanBuilder;

  constructor(readonly maxRows: number) {
    this.#keys = new ImportanceKeys(maxRows);
    this.#rows = new RowSet(maxRows);
    this.#plan = new PlanBuilder(maxRows);
  }

  select(request: SelectionRequest): ChunkPlan {
    const { importance, rows } = request;
    requireRows(request, this.maxRows);
    const least = leastBitsAtLeast(requireThreshold(request));
    this.#keys.load(importance, rows);
    this.#rows.clear(rows);
    this.#rows.addAtLeast(this.#keys.bits, 0, rows, least);
    this.#plan.clear();
    this.#rows.appendRuns(rows, this.#plan);
    return this.#plan;
  }
}

class ChunkSelector implements Selector {
  readonly policy = "chunk";
  readonly #keys: ImportanceKeys;
  readonly #greedy: GreedyChunks;
  readonly #plan: PlanBuilder;
  readonly #windows = new WindowCache();

  constructor(readonly maxRows: number) {
    this.#keys = new ImportanceKeys(maxRows);
    this.#greedy = new GreedyChunks(maxRows);
    this.#plan = new PlanBuilder(maxRows);
  }

  select(request: SelectionRequest): ChunkPlan {
    const { importance, rows, rowBytes } = request;
    requireRows(request, this.maxRows);
    const budget = requireBudget(request);
    requireInteger(rowBytes, "rowBytes", 1);
    const table = requireTable(request);
    const windows = this.#windows.get(rows, rowBytes, table, request.hyperparameters);
    this.#keys.load(importance, rows);
    if (budget >= rows) return this.#plan.fillDense(rows);
    this.#plan.clear();
    if (budget > 0) {
      const values = this.#keys.values;
      this.#greedy.addChunks(values, rows, budget, windows, rowBytes, table, this.#plan);
    }
    return this.#plan;
  }
}

/** Shapes whose windows are remembered; a model has at most seven per selector. */
const MAX_CACHED_SHAPES = 32;

interface CachedWindows {
  readonly rows: number;
  readonly rowBytes: number;
  readonly table: LatencyTable;
  readonly hyperparameters: ChunkHyperparameters | undefined;
  readonly minKiB: number;
  readonly stepKiB: number;
  readonly maxKiB: number;
  readonly jumpKiB: number;
  readonly windows: WindowRows;
}

/** Windows by shape, so that a shape seen before allocates nothing. Replaced in turn when full. */
class WindowCache {
  readonly #entries: CachedWindows[] = [];
  #next = 0;

  get(
    rows: number,
    rowBytes: number,
    table: LatencyTable,
    hyperparameters: ChunkHyperparameters | undefined,
  ): WindowRows {
    for (const entry of this.#entries) {
      if (entry.rows !== rows || entry.rowBytes !== rowBytes || entry.table !== table) continue;
      if (entry.hyperparameters === hyperparameters && isUnchanged(entry)) return entry.windows;
    }
    const chosen =
      hyperparameters ?? defaultHyperparameters({ rows: Math.max(1, rows), rowBytes, table });
    const { minKiB, stepKiB, maxKiB, jumpKiB } = chosen;
    const windows = windowRows(chosen, rowBytes);
    const sizes = { minKiB, stepKiB, maxKiB, jumpKiB };
    this.#entries[this.#next] = { rows, rowBytes, table, hyperparameters, ...sizes, windows };
    this.#next = (this.#next + 1) % MAX_CACHED_SHAPES;
    return windows;
  }
}

/** Whether the caller's own object, if any, still holds the values that the windows were made from. */
function isUnchanged(entry: CachedWindows): boolean {
  const { hyperparameters } = entry;
  if (hyperparameters === undefined) return true;
  return (
    hyperparameters.minKiB === entry.minKiB &&
    hyperparameters.stepKiB === entry.stepKiB &&
    hyperparameters.maxKiB === entry.maxKiB &&
    hyperparameters.jumpKiB === entry.jumpKiB
  );
}
