import { LatencyTable, simulatedDevice, validatePlan } from "@neuron-chunking/latency-model";
import { describe, expect, test } from "vitest";
import {
  createSelector,
  MAX_CANDIDATES,
  POLICY_NAMES,
  type ChunkSelectorErrorCode,
  type PolicyName,
  type SelectionRequest,
} from "../src/index.js";
import { expectError } from "./expect-error.js";
import { rowsOf } from "./naive.js";

const table = new LatencyTable(simulatedDevice("nvme-gen4"));
const valid: SelectionRequest = {
  importance: Float32Array.of(1, 2, 3, 4, 5, 6),
  rows: 6,
  budgetRows: 3,
  threshold: 4,
  rowBytes: 4096,
  table,
};
const SPARSE = ["topk", "threshold", "chunk"] as const;

/** A valid request without one field. */
function without(field: keyof SelectionRequest): SelectionRequest {
  const copy = { ...valid };
  Reflect.deleteProperty(copy, field);
  return copy;
}

describe.each(SPARSE)("%s refuses", (policy) => {
  const selector = createSelector(policy, { maxRows: 8 });

  test.each([NaN, Infinity, -Infinity, -1, -1e-45])("an importance of %d, by its row", (value) => {
    for (const row of [0, 3, 5]) {
      const importance = valid.importance.slice();
      importance[row] = value;
      const path = `importance[${row}]`;
      expectError(() => selector.select({ ...valid, importance }), "INVALID_IMPORTANCE", path);
    }
  });

  test("NaN even when the budget needs no choice", () => {
    const importance = new Float32Array(6).fill(NaN);
    for (const budgetRows of [0, 6]) {
      const request = { ...valid, importance, budgetRows };
      expectError(() => selector.select(request), "INVALID_IMPORTANCE", "importance[0]");
    }
  });

  test.each([5, 7])("%d importances for 6 rows", (length) => {
    const importance = new Float32Array(length);
    const path = "importance.length";
    expectError(() => selector.select({ ...valid, importance }), "INVALID_REQUEST", path);
  });

  test("and still works afterwards", () => {
    const importance = valid.importance.slice().fill(NaN);
    expect(() => selector.select({ ...valid, importance })).toThrow();
    const fresh = createSelector(policy, { maxRows: 8 });
    expect(rowsOf(selector.select(valid))).toEqual(rowsOf(fresh.select(valid)));
  });
});

describe("a request is refused", () => {
  const cases: [PolicyName, SelectionRequest, ChunkSelectorErrorCode, string][] = [
    ["dense", { ...valid, rows: 9 }, "INVALID_REQUEST", "rows"],
    ["dense", { ...valid, rows: -1 }, "INVALID_REQUEST", "rows"],
    ["topk", { ...valid, rows: 1.5 }, "INVALID_REQUEST", "rows"],
    ["chunk", { ...valid, rows: NaN }, "INVALID_REQUEST", "rows"],
    ["topk", without("budgetRows"), "INVALID_REQUEST", "budgetRows"],
    ["chunk", without("budgetRows"), "INVALID_REQUEST", "budgetRows"],
    ["topk", { ...valid, budgetRows: -1 }, "INVALID_REQUEST", "budgetRows"],
    ["topk", { ...valid, budgetRows: NaN }, "INVALID_REQUEST", "budgetRows"],
    ["chunk", { ...valid, budgetRows: 2.5 }, "INVALID_REQUEST", "budgetRows"],
    ["chunk", { ...valid, budgetRows: Infinity }, "INVALID_REQUEST", "budgetRows"],
    ["threshold", without("threshold"), "INVALID_REQUEST", "threshold"],
    ["threshold", { ...valid, threshold: NaN }, "INVALID_REQUEST", "threshold"],
    ["threshold", { ...valid, threshold: -1 }, "INVALID_REQUEST", "threshold"],
    ["threshold", { ...valid, threshold: Infinity }, "INVALID_REQUEST", "threshold"],
    ["chunk", { ...valid, rowBytes: 0 }, "INVALID_REQUEST", "rowBytes"],
    ["chunk", { ...valid, rowBytes: 1.5 }, "INVALID_REQUEST", "rowBytes"],
    ["chunk", without("table"), "INVALID_REQUEST", "table"],
    ...(["minKiB", "stepKiB", "maxKiB", "jumpKiB"] as const).flatMap((field) =>
      [0, -1, NaN, Infinity].map(
        (value): [PolicyName, SelectionRequest, ChunkSelectorErrorCode, string] => [
          "chunk",
          {
            ...valid,
            hyperparameters: { minKiB: 8, stepKiB: 8, maxKiB: 64, jumpKiB: 8, [field]: value },
          },
          "INVALID_HYPERPARAMETERS",
          `hyperparameters.${field}`,
        ],
      ),
    ),
    [
      "chunk",
      { ...valid, hyperparameters: { minKiB: 8, stepKiB: 8, maxKiB: 7, jumpKiB: 8 } },
      "INVALID_HYPERPARAMETERS",
      "hyperparameters.maxKiB",
    ],
  ];
  test.each(cases)("%s %j: %s at %s", (policy, request, code, path) => {
    const selector = createSelector(policy, { maxRows: 8 });
    expectError(() => selector.select(request), code, path);
  });

  test("when its hyperparameters would score an absurd number of windows", () => {
    const rows = 20_000;
    const selector = createSelector("chunk", { maxRows: rows });
    const hyperparameters = { minKiB: 1, stepKiB: 1, maxKiB: 2000, jumpKiB: 1 };
    const importance = new Float32Array(rows);
    const request = { importance, rows, budgetRows: 10_000, rowBytes: 1024, table };
    const run = (): unknown => selector.select({ ...request, hyperparameters });
    expectError(run, "INVALID_HYPERPARAMETERS", "hyperparameters");
    expect(run).toThrow(String(MAX_CANDIDATES));
  });
});

describe("createSelector", () => {
  test.each(POLICY_NAMES)("%s carries its name and bound", (policy) => {
    const selector = createSelector(policy, { maxRows: 8 });
    expect([selector.policy, selector.maxRows]).toEqual([policy, 8]);
  });

  test.each(["greedy", "", "toString", undefined])("refuses the policy %j", (policy) => {
    const create = (): unknown => createSelector(policy as PolicyName, { maxRows: 8 });
    expectError(create, "UNKNOWN_POLICY", "policy");
    expect(create).toThrow(/dense, topk, threshold, chunk/);
  });

  test.each([0, -1, 1.5, NaN, 2 ** 31])("refuses maxRows %d", (maxRows) => {
    expectError(() => createSelector("topk", { maxRows }), "INVALID_REQUEST", "maxRows");
  });
});

describe("workspaces", () => {
  test.each(POLICY_NAMES)("%s hands out the same memory at every selection", (policy) => {
    const selector = createSelector(policy, { maxRows: 8 });
    const plan = selector.select(valid);
    const { starts, lengths } = plan;
    for (const rows of [6, 3, 1, 6]) {
      const importance = valid.importance.slice(0, rows);
      const again = selector.select({ ...valid, importance, rows });
      validatePlan(again, rows);
      expect(again).toBe(plan);
      expect(again.starts).toBe(starts);
      expect(again.lengths).toBe(lengths);
    }
  });

  test("importance may be a view into other memory, and is left as it was", () => {
    const memory = Float32Array.of(99, -0, 5, 1, 7, 99);
    const importance = memory.subarray(1, 5);
    const selector = createSelector("topk", { maxRows: 8 });
    const plan = selector.select({ importance, rows: 4, budgetRows: 2, rowBytes: 1 });
    expect(rowsOf(plan)).toEqual([1, 3]);
    expect(Object.is(memory[1], -0)).toBe(true);
    expect(Array.from(memory.subarray(2))).toEqual([5, 1, 7, 99]);
  });

  test("changing a hyperparameters object in place has its effect", () => {
    const selector = createSelector("chunk", { maxRows: 8 });
    const hyperparameters = { minKiB: 4, stepKiB: 4, maxKiB: 4, jumpKiB: 4 };
    const importance = Float32Array.of(1, 9, 1, 9, 1, 1);
    const request = { ...valid, importance, budgetRows: 2, hyperparameters };
    expect(rowsOf(selector.select(request))).toEqual([1, 3]);
    Object.assign(hyperparameters, { minKiB: 8, stepKiB: 8, maxKiB: 8, jumpKiB: 8 });
    expect(rowsOf(selector.select(request))).toEqual([0, 1]);
  });

  test("more shapes than are remembered still select rightly", () => {
    const selector = createSelector("chunk", { maxRows: 8 });
    for (let round = 0; round < 2; round++) {
      for (let rowBytes = 1000; rowBytes < 1100; rowBytes++) {
        const fresh = createSelector("chunk", { maxRows: 8 });
        const request = { ...valid, rowBytes };
        expect(rowsOf(selector.select(request))).toEqual(rowsOf(fresh.select(request)));
      }
    }
  });
});
