import type { LatencyTable } from "@neuron-chunking/latency-model";
import type { Quantity } from "./crossover.js";
import type { WarmStart } from "./price-search.js";
import { fitTwoLines } from "./fitted-curve.js";
import { PassCurve } from "./pass-curve.js";
import { RunCosts } from "./run-costs.js";

/** Shapes that are remembered; a model has at most seven. */
const MAX_CACHED_SHAPES = 32;

/** A fit further off than this is not used: the table has features that are more than noise. */
const MOST_FIT_ERROR = 0.25;

/** Where the last searches of a shape ended. */
export type WarmStarts = Readonly<Record<Quantity, WarmStart>>;

/** What is kept from one selection of a shape to the next. */
export interface ShapeState {
  readonly costs: RunCosts;
  readonly curve: PassCurve;
  /** No plan costs less than this times what the curve says. */
  readonly leastRatio: number;
  readonly warm: WarmStarts;
}

interface ShapeKey {
  readonly rows: number;
  readonly rowBytes: number;
  readonly table: LatencyTable;
  readonly exact: boolean;
}

/** States by shape and table, so that a shape seen before allocates nothing. Replaced in turn when full. */
export class ShapeCache {
  readonly #entries: { key: ShapeKey; state: ShapeState }[] = [];
  #next = 0;

  /** @param exact go by the table itself, however many kinks it has. */
  get(rows: number, rowBytes: number, table: LatencyTable, exact: boolean): ShapeState {
    for (const { key, state } of this.#entries) {
      if (key.rows !== rows || key.rowBytes !== rowBytes || key.exact !== exact) continue;
      if (key.table === table) return state;
    }
    const state = createState(new RunCosts(rows, rowBytes, table), exact);
    this.#entries[this.#next] = { key: { rows, rowBytes, table, exact }, state };
    this.#next = (this.#next + 1) % MAX_CACHED_SHAPES;
    return state;
  }
}

function createState(costs: RunCosts, exact: boolean): ShapeState {
  const warm = { importance: cold(), latencyNs: cold(), selectedRows: cold() };
  const curve = new PassCurve(costs);
  if (exact || curve.isTwoLines) return { costs, curve, leastRatio: 1, warm };
  const fit = fitTwoLines(costs);
  if (fit.worstError > MOST_FIT_ERROR) return { costs, curve, leastRatio: 1, warm };
  return { costs, curve: new PassCurve(fit), leastRatio: fit.leastRatio, warm };
}

function cold(): WarmStart {
  return { pricePerNs: 0, slope: 1 };
}
