import type { LatencyTable } from "@neuron-chunking/latency-model";
import type { Quantity } from "./crossover.js";
import { createGrid, type Closeness, type PassGrid } from "./pass-grid.js";
import type { WarmStart } from "./price-search.js";
import { RunCosts } from "./run-costs.js";

/** Shapes that are remembered; a model has at most seven. */
const MAX_CACHED_SHAPES = 32;

/** Where the last searches of a shape ended. */
export type WarmStarts = Readonly<Record<Quantity, WarmStart>>;

/** What is kept from one selection of a shape to the next. */
export interface ShapeState {
  readonly costs: RunCosts;
  readonly closeness: Closeness;
  readonly grid: PassGrid;
  readonly warm: WarmStarts;
}

/** States by shape and table, so that a shape seen before allocates nothing. Replaced in turn when full. */
export class ShapeCache {
  readonly #states: ShapeState[] = [];
  #next = 0;

  get(rows: number, rowBytes: number, table: LatencyTable, closeness: Closeness): ShapeState {
    for (const state of this.#states) {
      const { costs } = state;
      if (costs.rows !== rows || costs.rowBytes !== rowBytes || costs.table !== table) continue;
      if (state.closeness === closeness) return state;
    }
    const costs = new RunCosts(rows, rowBytes, table);
    const grid = createGrid(costs, closeness);
    const warm = { importance: cold(), latencyNs: cold(), selectedRows: cold() };
    const state = { costs, closeness, grid, warm };
    this.#states[this.#next] = state;
    this.#next = (this.#next + 1) % MAX_CACHED_SHAPES;
    return state;
  }
}

function cold(): WarmStart {
  return { pricePerNs: 0, slope: 1 };
}
