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
  readonly grid: PassGrid;
  readonly warm: WarmStarts;
}

interface ShapeKey {
  readonly rows: number;
  readonly rowBytes: number;
  readonly table: LatencyTable;
  readonly closeness: Closeness;
}

/** States by shape and table, so that a shape seen before allocates nothing. Replaced in turn when full. */
export class ShapeCache {
  readonly #entries: { key: ShapeKey; state: ShapeState }[] = [];
  #next = 0;

  get(rows: number, rowBytes: number, table: LatencyTable, closeness: Closeness): ShapeState {
    for (const { key, state } of this.#entries) {
      if (key.rows !== rows || key.rowBytes !== rowBytes || key.closeness !== closeness) continue;
      if (key.table === table) return state;
    }
    const costs = new RunCosts(rows, rowBytes, table);
    const grid = createGrid(costs, closeness);
    const warm = { importance: cold(), latencyNs: cold(), selectedRows: cold() };
    const state = { costs, grid, warm };
    this.#entries[this.#next] = { key: { rows, rowBytes, table, closeness }, state };
    this.#next = (this.#next + 1) % MAX_CACHED_SHAPES;
    return state;
  }
}

function cold(): WarmStart {
  return { pricePerNs: 0, slope: 1 };
}
