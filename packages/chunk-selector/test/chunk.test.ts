import {
  estimatePlanNs,
  LatencyTable,
  selectedRows,
  simulatedDevice,
  validatePlan,
} from "@neuron-chunking/latency-model";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createSelector, defaultHyperparameters, importanceKept } from "../src/index.js";
import * as arbitrary from "./arbitraries.js";
import { logNormalImportance } from "./generated-importance.js";
import { naiveAlgorithm1, rowsOf } from "./naive.js";
import { check } from "./property.js";

const agx = new LatencyTable(simulatedDevice("orin-agx"));
const KIB = 1024;

/** Windows of 1 KiB rows, so that KiB and rows are the same number. */
function select(
  importance: number[],
  budgetRows: number,
  [minKiB, stepKiB, maxKiB, jumpKiB]: [number, number, number, number],
): number[] {
  const rows = importance.length;
  const selector = createSelector("chunk", { maxRows: Math.max(1, rows) });
  const hyperparameters = { minKiB, stepKiB, maxKiB, jumpKiB };
  const plan = selector.select({
    importance: Float32Array.from(importance),
    rows,
    budgetRows,
    rowBytes: KIB,
    table: agx,
    hyperparameters,
  });
  validatePlan(plan, rows);
  return rowsOf(plan);
}

describe("Algorithm 1 against the naive model", () => {
  // One selector for all cases: whatever a selection leaves behind must not leak into the next.
  const MAX_ROWS = 150;
  const selector = createSelector("chunk", { maxRows: MAX_ROWS });

  test("same rows on any importance, budget, row width, table and hyperparameters", () => {
    check(
      fc.property(
        arbitrary.importances(1, MAX_ROWS),
        fc.double({ min: 0, max: 1.1, noNaN: true }),
        arbitrary.rowWidths,
        arbitrary.tables,
        arbitrary.hyperparameters,
        (importance, share, rowBytes, table, hyperparameters) => {
          const rows = importance.length;
          const budgetRows = Math.round(share * rows);
          const request = { importance, rows, budgetRows, rowBytes, table, hyperparameters };
          const plan = selector.select(request);
          validatePlan(plan, rows);
          const naive = naiveAlgorithm1(importance, budgetRows, rowBytes, table, hyperparameters);
          expect(rowsOf(plan)).toEqual(naive);
          expect(selectedRows(plan)).toBeLessThanOrEqual(budgetRows);
          if (budgetRows > 0) expect(plan.chunkCount).toBeGreaterThan(0);
        },
      ),
      2000,
    );
  });

  test("same rows with the default hyperparameters", () => {
    check(
      fc.property(
        arbitrary.importances(1, MAX_ROWS),
        fc.double({ min: 0, max: 1, noNaN: true }),
        arbitrary.rowWidths,
        arbitrary.tables,
        (importance, share, rowBytes, table) => {
          const rows = importance.length;
          const budgetRows = Math.round(share * rows);
          const plan = selector.select({ importance, rows, budgetRows, rowBytes, table });
          const chosen = defaultHyperparameters({ rows, rowBytes, table });
          expect(rowsOf(plan)).toEqual(
            naiveAlgorithm1(importance, budgetRows, rowBytes, table, chosen),
          );
        },
      ),
      500,
    );
  });

  // Thousands of windows: more than one bucket, long buckets, the radix sort.
  test.each([
    { rows: 896, rowBytes: 1792, kept: 0.5 },
    { rows: 896, rowBytes: 256, kept: 0.9 },
    { rows: 3584, rowBytes: 7168, kept: 0.6 },
    { rows: 3584, rowBytes: 37_888, kept: 0.3 },
    { rows: 4864, rowBytes: 1792, kept: 0.97 },
  ])("same rows at real sizes: $rows x $rowBytes B, $kept kept", ({ rows, rowBytes, kept }) => {
    for (const seed of [1, 2]) {
      const importance = logNormalImportance(rows, seed);
      // Parts of one value and of zero, for ties by the hundred.
      importance.fill(0, 0, rows >>> 3);
      importance.fill(1, rows >>> 2, rows >>> 1);
      const budgetRows = Math.round(kept * rows);
      const big = createSelector("chunk", { maxRows: rows });
      const plan = big.select({ importance, rows, budgetRows, rowBytes, table: agx });
      const chosen = defaultHyperparameters({ rows, rowBytes, table: agx });
      const naive = naiveAlgorithm1(importance, budgetRows, rowBytes, agx, chosen);
      expect(rowsOf(plan)).toEqual(naive);
    }
  });
});

describe("Algorithm 1 by hand", () => {
  test("the best window per time wins, then what fits beside it", () => {
    // Windows of 2 rows at every start: 9+9 first, then 4+4; the rest does not fit the budget.
    expect(select([0, 9, 9, 0, 4, 4, 1, 1], 4, [2, 2, 2, 1])).toEqual([1, 2, 4, 5]);
  });

  test("starts are multiples of the stride: what straddles them is not a window", () => {
    expect(select([0, 9, 9, 0, 4, 4, 1, 1], 2, [2, 2, 2, 2])).toEqual([0, 1]);
  });

  test("the stride is the smaller of size and jump cap", () => {
    // Size 4, jump 3: starts 0, 3, 6. The best window is rows 3 to 6.
    expect(select([0, 0, 0, 5, 5, 5, 5, 0, 0, 0], 4, [4, 4, 4, 3])).toEqual([3, 4, 5, 6]);
    // Jump 9: stride 4, starts 0, 4. Rows 4 to 7.
    expect(select([0, 0, 0, 5, 5, 5, 5, 0, 0, 0], 4, [4, 4, 4, 9])).toEqual([4, 5, 6, 7]);
  });

  test("sizes are r_min, r_min + dr, ... up to r_max", () => {
    // One long hot run of 5; sizes 2 and 5 exist with step 3, sizes 2 and 4 with step 2.
    const hot = [0, 7, 7, 7, 7, 7, 0, 0, 0, 0];
    expect(select(hot, 5, [2, 3, 6, 1])).toEqual([1, 2, 3, 4, 5]);
    expect(select(hot, 5, [2, 2, 5, 1])).toEqual([1, 2, 3, 4]);
  });

  test("a budget that is no multiple stays short by less than r_min", () => {
    expect(select([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 10, [4, 4, 4, 4])).toEqual([
      4, 5, 6, 7, 8, 9, 10, 11,
    ]);
  });

  test("a window that does not fit is skipped for a smaller one that does", () => {
    // Size 4 at 0 wins; of the 2 left, no window of 4 fits, one of 2 does.
    const importance = [9, 9, 9, 9, 1, 1, 8, 8, 8, 8, 1, 1];
    expect(select(importance, 6, [2, 2, 4, 2])).toEqual([0, 1, 2, 3, 6, 7]);
  });

  test("windows that touch become one chunk", () => {
    const selector = createSelector("chunk", { maxRows: 8 });
    const importance = Float32Array.of(0, 0, 5, 5, 4, 4, 0, 0);
    const hyperparameters = { minKiB: 2, stepKiB: 2, maxKiB: 2, jumpKiB: 2 };
    const request = { importance, rows: 8, budgetRows: 4, rowBytes: KIB, table: agx };
    const plan = selector.select({ ...request, hyperparameters });
    expect([plan.chunkCount, plan.starts[0], plan.lengths[0]]).toEqual([1, 2, 4]);
  });

  test("ties: the smaller size, then the lower start", () => {
    // Nothing is important: every score is 0, so windows of 2 from the left.
    expect(select(new Array<number>(9).fill(0), 5, [2, 2, 6, 1])).toEqual([0, 1, 2, 3]);
  });

  test("all equal: the longest windows, which read fastest per row", () => {
    expect(select(new Array<number>(12).fill(3), 8, [2, 2, 6, 2])).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7,
    ]);
  });

  test("rows wider than every chunk size are windows of one row: topk by Algorithm 1", () => {
    const selector = createSelector("chunk", { maxRows: 6 });
    const importance = Float32Array.of(5, 1, 4, 2, 3, 0);
    const request = { importance, rows: 6, budgetRows: 3, rowBytes: 500 * KIB, table: agx };
    expect(rowsOf(selector.select(request))).toEqual([0, 2, 4]);
  });

  test("fewer rows than r_min, or a budget below it: the window is clipped to the budget", () => {
    expect(select([1, 2, 9, 9, 2], 2, [64, 64, 236, 1])).toEqual([2, 3]);
    expect(select([1, 2, 9, 9, 2], 1, [64, 64, 236, 64])).toEqual([2]);
    expect(select([1, 2], 1, [64, 64, 236, 64])).toEqual([1]);
  });

  test("budget 0 is nothing; a budget of all rows or more is dense, whatever the strides", () => {
    const importance = [1, 0, 3, 0, 5];
    expect(select(importance, 0, [2, 2, 4, 2])).toEqual([]);
    expect(select(importance, 5, [2, 2, 4, 2])).toEqual([0, 1, 2, 3, 4]);
    expect(select(importance, 99, [2, 2, 4, 2])).toEqual([0, 1, 2, 3, 4]);
    expect(select([], 3, [2, 2, 4, 2])).toEqual([]);
    expect(select([7], 1, [2, 2, 4, 2])).toEqual([0]);
    expect(select([7], 0, [2, 2, 4, 2])).toEqual([]);
  });

  test("scaling the importance by a power of two changes nothing, from tiny to huge", () => {
    const importance = Array.from(logNormalImportance(64, 3));
    const base = select(importance, 30, [2, 2, 16, 1]);
    for (const exponent of [-60, -20, 20, 100]) {
      const scaled = importance.map((value) => value * 2 ** exponent);
      expect(select(scaled, 30, [2, 2, 16, 1])).toEqual(base);
    }
  });
});

describe("what the selection is worth", () => {
  // Modelled, on the paper's device; the shapes of a 7B and a 0.5B model. Bounds are well inside what this
  // importance gives, so that they fail when the selection gets worse, not when a constant moves.
  test.each([
    { rows: 18_944, rowBytes: 7168, atLeast: 2.5 },
    { rows: 4864, rowBytes: 1792, atLeast: 6 },
    { rows: 896, rowBytes: 1792, atLeast: 6 },
  ])("at equal importance, topk reads $atLeast x as long: $rows x $rowBytes B", (shape) => {
    const { rows, rowBytes, atLeast } = shape;
    const importance = logNormalImportance(rows, 7);
    const budgetRows = Math.round(0.5 * rows);
    const chunk = createSelector("chunk", { maxRows: rows });
    const topk = createSelector("topk", { maxRows: rows });
    const chunkPlan = chunk.select({ importance, rows, budgetRows, rowBytes, table: agx });
    const kept = importanceKept(chunkPlan, importance);
    let [low, high] = [1, rows];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const plan = topk.select({ importance, rows, budgetRows: middle, rowBytes });
      if (importanceKept(plan, importance) >= kept) high = middle;
      else low = middle + 1;
    }
    const topkPlan = topk.select({ importance, rows, budgetRows: low, rowBytes });
    const ratio =
      estimatePlanNs(topkPlan, rowBytes, agx) / estimatePlanNs(chunkPlan, rowBytes, agx);
    console.log(`${rows} x ${rowBytes} B: topk / chunk modelled time ${ratio.toFixed(2)}`);
    expect(ratio).toBeGreaterThan(atLeast);
  });
});
