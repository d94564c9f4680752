import {
  copyPlan,
  estimatePlanNs,
  LatencyTable,
  selectedRows,
  simulatedDevice,
  validatePlan,
} from "@neuron-chunking/latency-model";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createSelector, exactPlan, topkImportance, type SelectionRequest } from "../src/index.js";
import * as arbitrary from "./arbitraries.js";
import { expectError } from "./expect-error.js";
import { logNormalImportance } from "./generated-importance.js";
import { naivePricedValue, planImportance } from "./naive-priced.js";
import { check } from "./property.js";

const agx = new LatencyTable(simulatedDevice("orin-agx"));
const gen4 = new LatencyTable(simulatedDevice("nvme-gen4"));
const MAX_ROWS = 120;

/** Sums in another order may differ by so much, relative. */
const ROUNDING = 1e-9;

// One selector for all properties: whatever a selection leaves behind, warm starts above all, must do no harm.
const selector = createSelector("lagrange", { maxRows: MAX_ROWS });
const shares = fc.double({ min: 0, max: 1, noNaN: true });
const requests = fc
  .tuple(arbitrary.importances(1, MAX_ROWS), arbitrary.rowWidths, arbitrary.tables)
  .map(([importance, rowBytes, table]) => ({
    importance,
    rows: importance.length,
    rowBytes,
    table,
  }));

function total(importance: Float32Array): number {
  return importance.reduce((sum, value) => sum + value, 0);
}

/** A plan that is a plan, and of which the selector says what is true. */
function select(request: SelectionRequest) {
  const plan = selector.select(request);
  validatePlan(plan, request.rows);
  const latencyNs = estimatePlanNs(plan, request.rowBytes, request.table ?? agx);
  const importance = planImportance(plan, request.importance);
  const { solution } = selector;
  expect(solution.latencyNs).toBeCloseTo(latencyNs, 3);
  expect(Math.abs(solution.importance - importance)).toBeLessThanOrEqual(ROUNDING * importance);
  expect(solution.rows).toBe(selectedRows(plan));
  expect(solution.lowerBoundNs).toBeLessThanOrEqual(latencyNs * (1 + ROUNDING) + 1e-6);
  return { ...solution, plan };
}

describe("at a price", () => {
  test("the plan is optimal for any table, importance and price", () => {
    check(
      fc.property(
        requests,
        fc.double({ min: -12, max: 6, noNaN: true }),
        ({ importance, rows, rowBytes, table }, logPrice) => {
          // Around the price at which reading everything breaks even.
          const breakEven = total(importance) / table.latencyNs(rows * rowBytes);
          const pricePerNs = breakEven * Math.exp(logPrice);
          const request = { importance, rows, rowBytes, table, pricePerNs, exactTable: true };
          const { latencyNs, importance: kept } = select(request);
          const best = naivePricedValue(importance, table, rowBytes, pricePerNs);
          const value = kept - pricePerNs * latencyNs;
          expect(Math.abs(value - best)).toBeLessThanOrEqual(ROUNDING * total(importance));
        },
      ),
      1500,
    );
  });

  test("of nothing every row that counts is read, at a price that nothing earns no row", () => {
    const importance = Float32Array.from([0, 2, 0, 1, 0]);
    const base = { importance, rows: 5, rowBytes: 4096, table: agx };
    expect(select({ ...base, pricePerNs: 0 }).importance).toBe(3);
    expect(select({ ...base, pricePerNs: 1 }).rows).toBe(0);
  });

  test("a table with kinks is followed closely, and exactly when asked", () => {
    const rows = 4096;
    const importance = logNormalImportance(rows, 1);
    const base = { importance, rows, rowBytes: 2048, table: gen4 };
    const wide = createSelector("lagrange", { maxRows: rows });
    const target = 0.7 * total(importance);
    wide.select({ ...base, importanceTarget: target });
    const fitted = { ...wide.solution };
    wide.select({ ...base, importanceTarget: target, exactTable: true });
    expect(fitted.latencyNs).toBeLessThan(1.01 * wide.solution.latencyNs);
    expect(fitted.lowerBoundNs).toBeLessThanOrEqual(wide.solution.latencyNs);
    expect(wide.solution.latencyNs).toBeLessThan(1.003 * wide.solution.lowerBoundNs);
  });
});

describe("for an importance", () => {
  const topk = createSelector("topk", { maxRows: MAX_ROWS });

  test("it is reached, no slower than by top-k, and the bound holds", () => {
    check(
      fc.property(requests, shares, (request, share) => {
        const { importance, rows, rowBytes, table } = request;
        const count = Math.round(share * rows);
        const largest = topk.select({ ...request, budgetRows: count });
        const target = planImportance(largest, importance);
        const topkNs = estimatePlanNs(largest, rowBytes, table);
        const found = select({ ...request, importanceTarget: target });
        expect(found.importance).toBeGreaterThanOrEqual(target * (1 - ROUNDING));
        expect(found.latencyNs).toBeLessThanOrEqual(topkNs * (1 + ROUNDING));
        expect(found.lowerBoundNs).toBeLessThanOrEqual(topkNs * (1 + ROUNDING));
      }),
      1500,
    );
  });

  test("matching top-k asks for what top-k keeps", () => {
    check(
      fc.property(
        arbitrary.importances(1, MAX_ROWS),
        arbitrary.rowWidths,
        shares,
        (importance, rowBytes, share) => {
          const rows = importance.length;
          const matchTopkRows = Math.round(share * rows);
          const target = topkImportance(importance, rows, matchTopkRows);
          const sorted = Array.from(importance).sort((a, b) => b - a);
          const expected = sorted.slice(0, matchTopkRows).reduce((sum, value) => sum + value, 0);
          expect(Math.abs(target - expected)).toBeLessThanOrEqual(ROUNDING * expected);
          const found = select({ importance, rows, rowBytes, table: agx, matchTopkRows });
          expect(found.importance).toBeGreaterThanOrEqual(target * (1 - ROUNDING));
        },
      ),
      500,
    );
  });

  test("on small matrices the plan is within 2 % of the proven optimum", () => {
    for (const [rows, rowBytes] of [
      [896, 1792],
      [896, 9728],
      [1536, 512],
    ] as const) {
      for (const [seed, share] of [
        [1, 0.4],
        [2, 0.7],
        [3, 0.9],
      ] as const) {
        const importance = logNormalImportance(rows, seed);
        const request = { importance, rows, rowBytes, table: agx };
        const importanceTarget = share * total(importance);
        const small = createSelector("lagrange", { maxRows: rows });
        small.select({ ...request, importanceTarget });
        const exact = exactPlan({ ...request, importanceTarget });
        const ratio = small.solution.latencyNs / exact.latencyNs;
        const name = `${rows} x ${rowBytes}, share ${share}, seed ${seed}`;
        expect(ratio, name).toBeGreaterThan(1 - ROUNDING);
        if (exact.isProven) expect(ratio, name).toBeLessThan(1.02);
      }
    }
  });

  test("wherever the search starts, the answer is as good", () => {
    const importance = logNormalImportance(MAX_ROWS, 7);
    const request = { importance, rows: MAX_ROWS, rowBytes: 9728, table: agx };
    const importanceTarget = 0.6 * total(importance);
    const found = [undefined, 1e-30, 1e-6, 1e-3, 1, 1e30].map(
      (near) =>
        select({
          ...request,
          importanceTarget,
          ...(near === undefined ? {} : { nearPricePerNs: near }),
        }).latencyNs,
    );
    expect(Math.max(...found) / Math.min(...found)).toBeLessThan(1.01);
  });
});

describe("for a budget", () => {
  test("of latency it is kept, and a plan of as much is not better than the bound of its price", () => {
    check(
      fc.property(requests, shares, (request, share) => {
        const denseNs = request.table.latencyNs(request.rows * request.rowBytes);
        const latencyBudgetNs = 1.2 * share * denseNs;
        const found = select({ ...request, latencyBudgetNs });
        expect(found.latencyNs).toBeLessThanOrEqual(latencyBudgetNs * (1 + ROUNDING));
      }),
      1000,
    );
  });

  test("of rows it is kept, and used", () => {
    check(
      fc.property(requests, shares, (request, share) => {
        const budgetRows = Math.round(share * request.rows);
        const found = select({ ...request, budgetRows });
        expect(found.rows).toBeLessThanOrEqual(budgetRows);
        if (budgetRows > 0 && total(request.importance) > 0) expect(found.rows).toBeGreaterThan(0);
      }),
      1000,
    );
  });

  test("of the latency of Algorithm 1 it keeps more importance than that", () => {
    for (const [rows, rowBytes] of [
      [18944, 7168],
      [4864, 1792],
      [896, 9728],
    ] as const) {
      for (const table of [agx, gen4]) {
        const importance = logNormalImportance(rows, rowBytes);
        const request = { importance, rows, rowBytes, table };
        const chunk = createSelector("chunk", { maxRows: rows });
        const greedy = copyPlan(chunk.select({ ...request, budgetRows: rows >> 1 }));
        const latencyBudgetNs = estimatePlanNs(greedy, rowBytes, table);
        const priced = createSelector("lagrange", { maxRows: rows });
        priced.select({ ...request, latencyBudgetNs });
        const kept = priced.solution.importance;
        expect(kept).toBeGreaterThan(planImportance(greedy, importance));
      }
    }
  });
});

describe("degenerate inputs", () => {
  const base = { rowBytes: 4096, table: agx };
  const cases: [string, Float32Array][] = [
    ["all equal", new Float32Array(100).fill(1)],
    ["all zero", new Float32Array(100)],
    ["one spike", Float32Array.from({ length: 100 }, (_, row) => (row === 57 ? 9 : 0))],
    ["sorted", Float32Array.from({ length: 100 }, (_, row) => 100 - row)],
    ["alternating", Float32Array.from({ length: 100 }, (_, row) => row % 2)],
    ["one row", new Float32Array(1).fill(2)],
    ["no rows", new Float32Array(0)],
  ];

  test.each(cases)("%s: every question is answered", (_, importance) => {
    const rows = importance.length;
    const request = { ...base, importance, rows };
    const sum = total(importance);
    const all = base.table.latencyNs(rows * base.rowBytes);
    for (const share of [0, 0.25, 0.5, 1]) {
      expect(
        select({ ...request, importanceTarget: share * sum }).importance,
      ).toBeGreaterThanOrEqual(share * sum * (1 - ROUNDING));
      expect(select({ ...request, latencyBudgetNs: share * all }).latencyNs).toBeLessThanOrEqual(
        share * all * (1 + ROUNDING),
      );
      expect(select({ ...request, budgetRows: share * 4 }).rows).toBeLessThanOrEqual(share * 4);
      expect(select({ ...request, pricePerNs: share }).rows).toBeLessThanOrEqual(rows);
      select({ ...request, matchTopkRows: share * 4 });
    }
  });

  test("a spike is read alone, equals in one run", () => {
    const spike = Float32Array.from({ length: 100 }, (_, row) => (row === 57 ? 9 : 0.001));
    const { plan } = select({ ...base, importance: spike, rows: 100, importanceTarget: 9 });
    expect([plan.chunkCount, plan.starts[0], plan.lengths[0]]).toEqual([1, 57, 1]);
    const equal = new Float32Array(100).fill(1);
    expect(select({ ...base, importance: equal, rows: 100, budgetRows: 40 }).plan.chunkCount).toBe(
      1,
    );
  });
});

describe("a request that makes no sense", () => {
  const good = { importance: Float32Array.of(1, 2), rows: 2, rowBytes: 512, table: agx };

  test.each([
    ["no question", {}, "request"],
    ["two questions", { budgetRows: 1, pricePerNs: 1 }, "request"],
    ["a negative price", { pricePerNs: -1 }, "pricePerNs"],
    ["a price that is no number", { pricePerNs: NaN }, "pricePerNs"],
    ["an endless budget", { latencyBudgetNs: Infinity }, "latencyBudgetNs"],
    ["half a row", { budgetRows: 0.5 }, "budgetRows"],
    ["half a row to match", { matchTopkRows: 0.5 }, "matchTopkRows"],
    ["more importance than there is", { importanceTarget: 3.1 }, "importanceTarget"],
    ["a start that is no price", { budgetRows: 1, nearPricePerNs: -1 }, "nearPricePerNs"],
    ["no table", { budgetRows: 1, table: undefined }, "table"],
    ["an effort there is not", { budgetRows: 1, effort: "some" }, "effort"],
    ["no row width", { budgetRows: 1, rowBytes: 0 }, "rowBytes"],
  ])("%s", (_, fields, path) => {
    const request = { ...good, ...fields } as SelectionRequest;
    expectError(() => selector.select(request), "INVALID_REQUEST", path);
  });
});
