import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  activationFrequencies,
  budgetRows,
  createSelector,
  hotColdPermutation,
  importanceOf,
} from "../src/index.js";
import { expectError } from "./expect-error.js";
import { rowsOf } from "./naive.js";
import { check } from "./property.js";

describe("importance of an activation", () => {
  test("is the mean absolute value of each channel", () => {
    const activation = Float32Array.of(1, -2, 0, -3, 4, 0);
    expect(Array.from(importanceOf(activation, 2, 3))).toEqual([2, 3, 0]);
  });

  test("agrees with a plain loop on shapes around the tile", () => {
    check(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom(1, 2, 255, 256, 257, 600),
        fc.integer(),
        (tokens, channels, seed) => {
          const activation = Float32Array.from(
            { length: tokens * channels },
            (_, i) => Math.sin(i * 12.9898 + (seed % 1000)) * 100,
          );
          const out = new Float32Array(channels).fill(NaN);
          expect(importanceOf(activation, tokens, channels, out)).toBe(out);
          for (let k = 0; k < channels; k++) {
            let sum = 0;
            for (let t = 0; t < tokens; t++) sum += Math.abs(activation[t * channels + k]);
            expect(out[k]).toBe(Math.fround(sum / tokens));
          }
        },
      ),
      50,
    );
  });

  test("many tokens lose no precision, and huge ones do not overflow", () => {
    const tokens = 100_000;
    expect(importanceOf(new Float32Array(tokens).fill(0.1), tokens, 1)[0]).toBe(Math.fround(0.1));
    expect(importanceOf(Float32Array.of(3e38, -3e38), 2, 1)[0]).toBe(Math.fround(3e38));
  });

  test("NaN passes through, for the selector to refuse by its channel", () => {
    const importance = importanceOf(Float32Array.of(1, NaN, 1, 1), 2, 2);
    expect(Array.from(importance)).toEqual([1, NaN]);
    const topk = createSelector("topk", { maxRows: 2 });
    const select = (): unknown => topk.select({ importance, rows: 2, budgetRows: 1, rowBytes: 1 });
    expectError(select, "INVALID_IMPORTANCE", "importance[1]");
  });

  test("lengths that do not fit are refused", () => {
    const four = new Float32Array(4);
    expectError(() => importanceOf(four, 0, 4), "INVALID_REQUEST", "tokens");
    expectError(() => importanceOf(four, 4, 0), "INVALID_REQUEST", "channels");
    expectError(() => importanceOf(four, 2, 3), "INVALID_REQUEST", "activation.length");
    expectError(() => importanceOf(four, 2, 2, four), "INVALID_REQUEST", "out.length");
  });
});

describe("row budget", () => {
  test.each([
    [100, 0, 100],
    [100, 0.3, 70],
    [100, 0.7, 30],
    [18_944, 0.5, 9472],
    [5, 0.5, 3],
    [3, 0.99, 1],
    [3, 1, 0],
    [1, 0.5, 1],
    [0, 0.5, 0],
  ])("%d rows at sparsity %d: %d", (rows, sparsity, kept) => {
    expect(budgetRows(rows, sparsity)).toBe(kept);
  });

  test.each([-0.1, 1.1, 40, NaN])("sparsity %d is refused", (sparsity) => {
    expectError(() => budgetRows(10, sparsity), "INVALID_REQUEST", "sparsity");
  });

  test.each([-1, 1.5, NaN])("%d rows are refused", (rows) => {
    expectError(() => budgetRows(rows, 0.5), "INVALID_REQUEST", "rows");
  });
});

describe("hot-cold reordering", () => {
  test("a neuron is active in the samples where it is in the top half", () => {
    const samples = [Float32Array.of(9, 1, 8, 2), Float32Array.of(9, 8, 1, 2)];
    const frequencies = activationFrequencies(samples);
    expect(Array.from(frequencies)).toEqual([1, 0.5, 0.5, 0]);
    expect(Array.from(hotColdPermutation(frequencies))).toEqual([0, 1, 2, 3]);
    expect(Array.from(hotColdPermutation([0, 0.5, 1, 0.5]))).toEqual([2, 1, 3, 0]);
  });

  test("an odd number of neurons rounds the half up; ties go to the lower index", () => {
    expect(Array.from(activationFrequencies([Float32Array.of(1, 2, 3)]))).toEqual([0, 1, 1]);
    expect(Array.from(activationFrequencies([Float32Array.of(5, 5, 5)]))).toEqual([1, 1, 0]);
    expect(Array.from(activationFrequencies([Float32Array.of(5)]))).toEqual([1]);
  });

  test("samples may stream through one array", () => {
    function* stream(): Generator<Float32Array> {
      const sample = new Float32Array(2);
      for (const values of [
        [1, 2],
        [1, 2],
        [2, 1],
        [1, 2],
      ]) {
        sample.set(values);
        yield sample;
      }
    }
    expect(Array.from(activationFrequencies(stream()))).toEqual([0.25, 0.75]);
  });

  test("the order is a permutation by descending frequency, stable", () => {
    check(
      fc.property(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 100 }), (frequencies) => {
        const permutation = Array.from(hotColdPermutation(frequencies));
        const naive = frequencies
          .map((frequency, row) => ({ frequency, row }))
          .sort((a, b) => b.frequency - a.frequency)
          .map(({ row }) => row);
        expect(permutation).toEqual(naive);
      }),
    );
  });

  test("stored in that order, a hot set that lay scattered is one chunk", () => {
    const rows = 64;
    const sample = Float32Array.from({ length: rows }, (_, row) => (row % 2 === 0 ? 1 : 5));
    const permutation = hotColdPermutation(activationFrequencies([sample]));
    const stored = Float32Array.from(permutation, (original) => sample[original]);
    const topk = createSelector("topk", { maxRows: rows });
    const request = { rows, budgetRows: rows / 2, rowBytes: 1 };
    expect(topk.select({ ...request, importance: sample }).chunkCount).toBe(rows / 2);
    const plan = topk.select({ ...request, importance: stored });
    expect(plan.chunkCount).toBe(1);
    expect(rowsOf(plan).map((row) => permutation[row])).toEqual(
      Array.from({ length: rows / 2 }, (_, i) => 2 * i + 1),
    );
  });

  test("bad samples and frequencies are refused", () => {
    const one = new Float32Array(1);
    expectError(() => activationFrequencies([]), "INVALID_REQUEST", "samples");
    expectError(
      () => activationFrequencies([new Float32Array(0)]),
      "INVALID_REQUEST",
      "samples[0].length",
    );
    expectError(
      () => activationFrequencies([one, new Float32Array(2)]),
      "INVALID_REQUEST",
      "samples[1].length",
    );
    expectError(
      () => activationFrequencies([one, Float32Array.of(NaN)]),
      "INVALID_IMPORTANCE",
      "importance[0]",
    );
    expectError(() => hotColdPermutation([1, NaN]), "INVALID_REQUEST", "frequencies[1]");
  });
});
