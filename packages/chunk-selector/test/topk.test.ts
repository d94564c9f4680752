import { selectedRows, validatePlan } from "@neuron-chunking/latency-model";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createSelector, importanceKept } from "../src/index.js";
import * as arbitrary from "./arbitraries.js";
import { logNormalImportance } from "./generated-importance.js";
import { naiveTopk, rowsOf } from "./naive.js";
import { check } from "./property.js";

const MAX_ROWS = 300;
const topk = createSelector("topk", { maxRows: MAX_ROWS });
const threshold = createSelector("threshold", { maxRows: MAX_ROWS });
const dense = createSelector("dense", { maxRows: MAX_ROWS });

describe("topk", () => {
  test("is the sort of objects, ties to the lower row", () => {
    check(
      fc.property(
        arbitrary.importances(0, MAX_ROWS),
        fc.nat(MAX_ROWS + 10),
        (importance, budgetRows) => {
          const rows = importance.length;
          const plan = topk.select({ importance, rows, budgetRows, rowBytes: 1 });
          validatePlan(plan, rows);
          expect(rowsOf(plan)).toEqual(naiveTopk(importance, budgetRows));
          expect(selectedRows(plan)).toBe(Math.min(rows, budgetRows));
        },
      ),
      1000,
    );
  });

  test("no other set of as many rows holds more importance", () => {
    check(
      fc.property(
        arbitrary.importances(1, 12).filter((importance) => importance.every(Number.isFinite)),
        fc.nat(12),
        (importance, budgetRows) => {
          const rows = importance.length;
          const plan = topk.select({ importance, rows, budgetRows, rowBytes: 1 });
          const sumOf = (subset: number): number => {
            const members = [...importance].filter((_, row) => (subset >>> row) & 1);
            // In ascending order, so that equal sets of values have equal sums.
            return members.sort((a, b) => a - b).reduce((sum, value) => sum + value, 0);
          };
          let best = 0;
          for (let subset = 0; subset < 1 << rows; subset++) {
            const size = subset.toString(2).replaceAll("0", "").length;
            if (size <= budgetRows) best = Math.max(best, sumOf(subset));
          }
          const chosen = rowsOf(plan).reduce((set, row) => set | (1 << row), 0);
          expect(sumOf(chosen)).toBe(best);
        },
      ),
      60,
    );
  });

  test.each([1, 448, 9472, 18_943])("%d of 18944 rows at real size", (budgetRows) => {
    const rows = 18_944;
    const importance = logNormalImportance(rows, 5);
    importance.fill(1, 100, 6000);
    const selector = createSelector("topk", { maxRows: rows });
    const plan = selector.select({ importance, rows, budgetRows, rowBytes: 7168 });
    expect(rowsOf(plan)).toEqual(naiveTopk(importance, budgetRows));
  });

  test("-0 and +0 tie", () => {
    const importance = Float32Array.of(-0, 0, -0, 0);
    const plan = topk.select({ importance, rows: 4, budgetRows: 2, rowBytes: 1 });
    expect(rowsOf(plan)).toEqual([0, 1]);
    expect(Object.is(importance[0], -0)).toBe(true);
  });
});

describe("threshold", () => {
  test("keeps exactly the rows that reach it", () => {
    check(
      fc.property(
        arbitrary.importances(0, MAX_ROWS),
        fc.oneof(
          fc.constant(0),
          fc.constant(1),
          fc.double({ min: 0, max: 20, noNaN: true }),
          fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
        ),
        (importance, least) => {
          const rows = importance.length;
          const plan = threshold.select({ importance, rows, threshold: least, rowBytes: 1 });
          validatePlan(plan, rows);
          expect(rowsOf(plan)).toEqual(
            Array.from(importance.keys()).filter((row) => importance[row] >= least),
          );
        },
      ),
    );
  });

  test("a threshold between two importances, in double precision, separates them", () => {
    const above = 1 + 2 ** -23;
    const importance = Float32Array.of(1, above, 1, above);
    const kept = (least: number): number[] =>
      rowsOf(threshold.select({ importance, rows: 4, threshold: least, rowBytes: 1 }));
    expect(kept(1)).toEqual([0, 1, 2, 3]);
    expect(kept(1 + 2 ** -24)).toEqual([1, 3]);
    expect(kept(1 + 2 ** -40)).toEqual([1, 3]);
    expect(kept(above)).toEqual([1, 3]);
    expect(kept(above + 2 ** -40)).toEqual([]);
    expect(kept(Number.MAX_VALUE)).toEqual([]);
    expect(kept(Number.MIN_VALUE)).toEqual([0, 1, 2, 3]);
    expect(kept(-0)).toEqual([0, 1, 2, 3]);
  });

  test("0 keeps every row", () => {
    const importance = Float32Array.of(0, 1, -0);
    const plan = threshold.select({ importance, rows: 3, threshold: 0, rowBytes: 1 });
    expect(rowsOf(plan)).toEqual([0, 1, 2]);
  });
});

describe("dense", () => {
  test.each([0, 1, 7, MAX_ROWS])("is one chunk of all %d rows, whatever the importance", (rows) => {
    const importance = new Float32Array(rows).fill(NaN);
    const plan = dense.select({ importance, rows, rowBytes: 1 });
    validatePlan(plan, rows);
    expect(plan.chunkCount).toBe(rows === 0 ? 0 : 1);
    expect(selectedRows(plan)).toBe(rows);
  });
});

test("the share of the importance that a plan keeps", () => {
  const importance = Float32Array.of(1, 2, 3, 4);
  const request = { importance, rows: 4, rowBytes: 1 };
  expect(importanceKept(topk.select({ ...request, budgetRows: 2 }), importance)).toBeCloseTo(
    0.7,
    12,
  );
  expect(importanceKept(topk.select({ ...request, budgetRows: 0 }), importance)).toBe(0);
  expect(importanceKept(dense.select(request), importance)).toBe(1);
  const zero = new Float32Array(4);
  expect(importanceKept(topk.select({ ...request, budgetRows: 0 }), zero)).toBe(1);
});
