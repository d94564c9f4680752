import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nonNegativeLeastSquares } from "../src/least-squares.js";
import { check } from "./property.js";

function lossOf(
  columns: readonly Float64Array[],
  target: Float64Array,
  weights: Float64Array,
  x: readonly number[],
): number {
  let loss = 0;
  for (let row = 0; row < target.length; row++) {
    const miss = columns.reduce((sum, column, k) => sum + x[k] * column[row], -target[row]);
    loss += weights[row] * miss ** 2;
  }
  return loss;
}

const ones = (count: number): Float64Array => new Float64Array(count).fill(1);

describe("non-negative least squares", () => {
  const entry = fc.double({ min: 0.01, max: 2, noNaN: true });
  const system = (columns: number) =>
    fc.integer({ min: columns, max: 20 }).chain((rows) => {
      const vector = fc.array(entry, { minLength: rows, maxLength: rows });
      return fc.tuple(fc.array(vector, { minLength: columns, maxLength: columns }), vector, vector);
    });

  test("P5: no point of a fine grid is better", () => {
    check(
      fc.property(system(2), ([columns, target, weights]) => {
        const problem = [
          columns.map((column) => Float64Array.from(column)),
          Float64Array.from(target),
          Float64Array.from(weights),
        ] as const;
        const x = nonNegativeLeastSquares(...problem);
        expect(Math.min(...x)).toBeGreaterThanOrEqual(0);
        const loss = lossOf(...problem, x);
        let gridLoss = Infinity;
        for (let a = 0; a <= 100; a++) {
          for (let b = 0; b <= 100; b++) {
            gridLoss = Math.min(gridLoss, lossOf(...problem, [a / 25, b / 25]));
          }
        }
        expect(loss).toBeLessThanOrEqual(gridLoss + 1e-9 * target.length);
      }),
      60,
    );
  });

  test("P5: no step within the non-negative numbers improves on it, with four columns", () => {
    check(
      fc.property(system(4), ([columns, target, weights]) => {
        const problem = [
          columns.map((column) => Float64Array.from(column)),
          Float64Array.from(target),
          Float64Array.from(weights),
        ] as const;
        const x = nonNegativeLeastSquares(...problem);
        const loss = lossOf(...problem, x);
        for (let k = 0; k < x.length; k++) {
          for (const step of [-0.1, -1e-3, 1e-3, 0.1]) {
            const moved = x.map((value, i) => (i === k ? Math.max(0, value + step) : value));
            expect(lossOf(...problem, moved)).toBeGreaterThanOrEqual(loss - 1e-9 * target.length);
          }
        }
      }),
    );
  });

  test("finds coefficients of very different scales exactly", () => {
    const big = Float64Array.from([1e6, 2e6, 5e6, 1e6]);
    const small = Float64Array.from([1e-3, 1e-3, 2e-3, 7e-3]);
    const target = big.map((value, row) => 3e-7 * value + 200 * small[row]);
    const [a, b] = nonNegativeLeastSquares([big, small], target, ones(4));
    expect(a / 3e-7).toBeCloseTo(1, 9);
    expect(b / 200).toBeCloseTo(1, 9);
  });

  test("a coefficient that would be negative is 0, the others make the best of it", () => {
    const x = nonNegativeLeastSquares(
      [Float64Array.of(1, 1, 1), Float64Array.of(1, 2, 3)],
      Float64Array.of(3, 2, 1),
      ones(3),
    );
    expect(x[0]).toBeCloseTo(2, 12);
    expect(x[1]).toBe(0);
  });

  test("columns that cannot be told apart: the first has it all", () => {
    const column = Float64Array.of(0.5, 0.5, 0.5, 0.5);
    const zeros = new Float64Array(4);
    expect(nonNegativeLeastSquares([column, column, column], ones(4), ones(4))).toEqual([2, 0, 0]);
    expect(nonNegativeLeastSquares([zeros, column], ones(4), ones(4))).toEqual([0, 2]);
  });

  test("no column helps, or no row counts: all 0", () => {
    const negative = [Float64Array.of(-1, -2)];
    expect(nonNegativeLeastSquares(negative, ones(2), ones(2))).toEqual([0]);
    expect(nonNegativeLeastSquares([ones(2)], ones(2), new Float64Array(2))).toEqual([0]);
  });
});
