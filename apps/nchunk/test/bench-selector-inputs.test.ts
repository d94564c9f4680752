import { defaultHyperparameters, windowRows } from "@neuron-chunking/chunk-selector";
import { LatencyTable, simulatedDevice } from "@neuron-chunking/latency-model";
import { describe, expect, it } from "vitest";
import { DEGENERATE_INPUTS, degenerateImportance } from "../src/bench/degenerate-importance";
import {
  CLUSTER_CORRELATION,
  coefficientOfVariation,
  drawHotCold,
  drawImportance,
  IMPORTANCE_ORDERS,
  IMPORTANCE_VARIATIONS,
  NEURON_SHARE,
  projectionInputs,
} from "../src/bench/importance-cases";
import { gridInputs, largestSums } from "../src/bench/selector/inputs";

const SEED = 77;
const ROWS = 40_000;
const query = (variation: number, rows = ROWS) => ({ rows, variation, seed: SEED });

/** Pearson's correlation of the logarithms. */
function logCorrelation(left: Float32Array, right: Float32Array): number {
  const [x, y] = [left, right].map((values) => Array.from(values, Math.log));
  const mean = (values: number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanX, meanY] = [mean(x), mean(y)];
  const product = (a: number[], meanA: number, b: number[], meanB: number): number =>
    a.reduce((sum, value, i) => sum + (value - meanA) * (b[i] - meanB), 0);
  return (
    product(x, meanX, y, meanY) /
    Math.sqrt(product(x, meanX, x, meanX) * product(y, meanY, y, meanY))
  );
}

describe(`importances of seed ${SEED}`, () => {
  it.each(IMPORTANCE_ORDERS)("%s: positive, and of the wanted variation", (order) => {
    for (const variation of [1.1, 1.3]) {
      const importance = drawImportance(order, query(variation));
      expect(importance).toHaveLength(ROWS);
      expect(importance.every((value) => value > 0 && Number.isFinite(value))).toBe(true);
      // Clustered rows are worth a twentieth as many independent ones.
      const tolerance = order === "clustered" ? 0.2 : 0.06;
      expect(Math.abs(coefficientOfVariation(importance) / variation - 1)).toBeLessThan(tolerance);
    }
  });

  it("heavy tails: the deviation of the logarithm is that of a variation of 3.3", () => {
    const logs = drawImportance("random", query(3.3)).map(Math.log);
    const variance = logs.reduce((sum, value) => sum + value * value, 0) / ROWS;
    expect(Math.abs(variance / Math.log(1 + 3.3 ** 2) - 1)).toBeLessThan(0.03);
  });

  it.each(IMPORTANCE_ORDERS)(
    "%s: the same again from the same seed, others from another",
    (order) => {
      const one = drawImportance(order, query(1.3, 500));
      expect(drawImportance(order, query(1.3, 500))).toEqual(one);
      expect(drawImportance(order, { ...query(1.3, 500), seed: SEED + 1 })).not.toEqual(one);
    },
  );

  it("neighbours are correlated in clustered order, and not in random order", () => {
    const lag = (importance: Float32Array): number =>
      logCorrelation(importance.slice(0, -1), importance.slice(1));
    expect(lag(drawImportance("clustered", query(1.3)))).toBeCloseTo(CLUSTER_CORRELATION, 1);
    expect(Math.abs(lag(drawImportance("random", query(1.3))))).toBeLessThan(0.03);
  });

  it("inputs of one projection share what belongs to the neurons, and no more", () => {
    const inputOf = projectionInputs(query(1.3));
    expect(logCorrelation(inputOf(0), inputOf(1))).toBeCloseTo(NEURON_SHARE, 1);
    expect(inputOf(3)).toEqual(inputOf(3));
  });

  it("hot-cold: the same numbers as in random order, hotter rows first", () => {
    const { original, reordered, permutation } = drawHotCold(query(1.3, 5_000));
    expect(original).toEqual(drawImportance("random", query(1.3, 5_000)));
    expect(reordered).toEqual(drawImportance("hot-cold", query(1.3, 5_000)));
    const everyRow = Array.from({ length: 5_000 }, (_, row) => row);
    expect(Array.from(permutation).sort((a, b) => a - b)).toEqual(everyRow);
    expect(Array.from(permutation, (row) => original[row])).toEqual(Array.from(reordered));
    const sum = (values: Float32Array): number => values.reduce((total, value) => total + value, 0);
    const first = (values: Float32Array): number => sum(values.subarray(0, 2_500)) / sum(values);
    expect(first(reordered)).toBeGreaterThan(0.6);
    // The input took no part in the calibration: its order is no perfect one.
    expect(first(reordered)).toBeLessThan(first(original.slice().sort().reverse()) - 0.05);
    expect(Math.abs(first(original) - 0.5)).toBeLessThan(0.05);
  });

  it("the grid has every variation in every order", () => {
    const inputs = gridInputs({ rows: 64, cols: 64, rowBytes: 128 }, IMPORTANCE_VARIATIONS);
    expect(inputs.map(({ order, variation }) => `${order} ${variation}`)).toEqual(
      IMPORTANCE_VARIATIONS.flatMap((one) => IMPORTANCE_ORDERS.map((order) => `${order} ${one}`)),
    );
  });

  it("sums of the largest start with nothing and end with all", () => {
    expect(Array.from(largestSums(Float32Array.of(1, 4, 2)))).toEqual([0, 4, 6, 7]);
  });
});

describe("degenerate importances", () => {
  const rows = 3584;
  const rowBytes = 1024;
  const table = new LatencyTable(simulatedDevice("orin-nano"));
  const draw = (name: (typeof DEGENERATE_INPUTS)[number]): Float32Array =>
    degenerateImportance(name, { rows, rowBytes, table, seed: SEED });

  it.each(DEGENERATE_INPUTS)("%s: one finite number of at least 0 for each row, seeded", (name) => {
    expect(draw(name)).toHaveLength(rows);
    expect(draw(name).every((value) => value >= 0 && Number.isFinite(value))).toBe(true);
    expect(draw(name)).toEqual(draw(name));
  });

  it("are what their names say", () => {
    expect(new Set(draw("equal"))).toEqual(new Set([1]));
    expect(new Set(draw("zero"))).toEqual(new Set([0]));
    expect(draw("spike").filter((value) => value > 0)).toEqual(Float32Array.of(1));
    const sorted = draw("sorted");
    expect(sorted.every((value, row) => row === 0 || value <= sorted[row - 1])).toBe(true);
  });

  it("alternating: as many hot rows as cold ones, in runs of Algorithm 1's smallest window", () => {
    const { minRows } = windowRows(defaultHyperparameters({ rows, rowBytes, table }), rowBytes);
    const hot = draw("alternating").map((value) => (value === 1 ? 1 : 0));
    expect(minRows).toBeGreaterThan(1);
    const changes = hot.reduce<number[]>(
      (at, value, row) => (row > 0 && value !== hot[row - 1] ? [...at, row] : at),
      [],
    );
    expect(new Set(changes.slice(1).map((row, i) => row - changes[i]))).toEqual(new Set([minRows]));
  });

  it("priced: every run is worth very nearly the same per nanosecond", () => {
    const importance = draw("priced");
    const worths: number[] = [];
    for (let row = 0; row < rows;) {
      let end = row;
      while (end < rows && importance[end] === importance[row]) end += 1;
      // The last run may have been cut off.
      if (importance[row] > 0 && end < rows) {
        worths.push((importance[row] * (end - row)) / table.latencyNs((end - row) * rowBytes));
      }
      row = end;
    }
    expect(worths.length).toBeGreaterThan(50);
    for (const worth of worths) expect(Math.abs(worth - 1)).toBeLessThan(1e-3);
  });
});
