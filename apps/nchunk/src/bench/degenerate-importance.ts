import type { LatencyTable } from "@neuron-chunking/latency-model";
import { defaultHyperparameters, windowRows } from "@neuron-chunking/chunk-selector";
import { uniformGenerator } from "../random";
import { drawImportance } from "./importance-cases";

/** Importances that no model has, but that a selector must bear. */
export const DEGENERATE_INPUTS = Object.freeze([
  "equal",
  "spike",
  "zero",
  "sorted",
  "alternating",
  "priced",
] as const);
export type DegenerateInput = (typeof DEGENERATE_INPUTS)[number];

const SORTED_VARIATION = 1.3;
/** What the cold half of "alternating" has of the hot half's importance. */
const COLD_LEVEL = 1e-3;
/** How far the chunks of "priced" lie apart in importance per nanosecond. */
const PRICE_SPREAD = 1e-3;

export interface DegenerateQuery {
  readonly rows: number;
  readonly rowBytes: number;
  readonly table: LatencyTable;
  readonly seed: number;
}

/**
 * Importances `[rows]`, a new array.
 *
 * - `equal`: all 1. `spike`: one 1 among zeros. `zero`: nothing but zeros. `sorted`: log-normal, descending.
 * - `alternating`, against Algorithm 1: hot and cold runs of its smallest window, half a window off its first start, so
 *   that its windows straddle the borders wherever its jump allows.
 * - `priced`, against a single price: separate runs of random length, each worth very nearly the same per nanosecond. Every
 *   price takes almost all or almost none, so all that lies between is unsupported and has to be found by repair.
 */
export function degenerateImportance(name: DegenerateInput, query: DegenerateQuery): Float32Array {
  const { rows, seed } = query;
  switch (name) {
    case "equal":
      return new Float32Array(rows).fill(1);
    case "zero":
      return new Float32Array(rows);
    case "spike": {
      const importance = new Float32Array(rows);
      importance[Math.floor(uniformGenerator(seed)() * rows)] = 1;
      return importance;
    }
    case "sorted":
      return drawImportance("random", { rows, variation: SORTED_VARIATION, seed }).sort().reverse();
    case "alternating":
      return alternating(query);
    case "priced":
      return priced(query);
  }
}

function alternating({ rows, rowBytes, table }: DegenerateQuery): Float32Array {
  const { minRows } = windowRows(defaultHyperparameters({ rows, rowBytes, table }), rowBytes);
  return Float32Array.from({ length: rows }, (_, row) =>
    Math.floor((row + minRows / 2) / minRows) % 2 === 0 ? COLD_LEVEL : 1,
  );
}

function priced({ rows, rowBytes, table, seed }: DegenerateQuery): Float32Array {
  const uniform = uniformGenerator(seed);
  const { minRows } = windowRows(defaultHyperparameters({ rows, rowBytes, table }), rowBytes);
  const latencyNs = table.rowLatencyNs(rowBytes, 2 * minRows);
  const importance = new Float32Array(rows);
  for (let row = 0; row < rows;) {
    const length = 1 + Math.floor(uniform() * 2 * minRows);
    const end = Math.min(rows, row + length);
    const share = (latencyNs[length] / length) * (1 + PRICE_SPREAD * (uniform() - 0.5));
    importance.fill(share, row, end);
    // A gap about as long as the runs, so that reading through it pays now and then.
    row = end + 1 + Math.floor(uniform() * 2 * minRows);
  }
  return importance;
}
