import type { LatencyTable } from "@neuron-chunking/latency-model";
import {
  DEGENERATE_INPUTS,
  degenerateImportance,
  type DegenerateInput,
} from "../degenerate-importance";
import { drawHotCold, drawImportance, type ImportanceOrder } from "../importance-cases";
import type { MatrixShape } from "./effort";

/** Every number that is drawn follows from this. */
export const SEED = 2511;

/** Importances of one matrix, and what is asked of them again and again. */
export interface BenchInput {
  readonly kind: "grid" | "degenerate";
  readonly order: ImportanceOrder | DegenerateInput;
  /** Coefficient of variation of the distribution; null where the input is no draw from one. */
  readonly variation: number | null;
  readonly importance: Float32Array;
  /** `[rows + 1]`: entry `k` is the sum of the `k` largest. */
  readonly largestSums: Float64Array;
}

/** `[rows + 1]`: entry `k` is the sum of the `k` largest importances. */
export function largestSums(importance: Float32Array): Float64Array {
  const ascending = importance.slice().sort();
  const sums = new Float64Array(importance.length + 1);
  for (let k = 1; k < sums.length; k += 1) sums[k] = sums[k - 1] + ascending[sums.length - 1 - k];
  return sums;
}

const inputOf = (
  kind: BenchInput["kind"],
  order: BenchInput["order"],
  variation: number | null,
  importance: Float32Array,
): BenchInput => ({ kind, order, variation, importance, largestSums: largestSums(importance) });

/** One input of each variation in each order. "random" and "hot-cold" hold the same numbers. */
export function gridInputs({ rows }: MatrixShape, variations: readonly number[]): BenchInput[] {
  return variations.flatMap((variation) => {
    const query = { rows, variation, seed: SEED };
    const { original, reordered } = drawHotCold(query);
    return [
      inputOf("grid", "random", variation, original),
      inputOf("grid", "clustered", variation, drawImportance("clustered", query)),
      inputOf("grid", "hot-cold", variation, reordered),
    ];
  });
}

/** The adversarial ones among them depend on the device. */
export function degenerateInputs(
  { rows, rowBytes }: MatrixShape,
  table: LatencyTable,
): BenchInput[] {
  return DEGENERATE_INPUTS.map((name) =>
    inputOf(
      "degenerate",
      name,
      null,
      degenerateImportance(name, { rows, rowBytes, table, seed: SEED }),
    ),
  );
}
