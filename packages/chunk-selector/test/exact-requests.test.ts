import { LatencyTable, simulatedDevice } from "@neuron-chunking/latency-model";
import { describe, expect, it } from "vitest";
import { exactPlan } from "../src/index.js";
import { expectError } from "./expect-error.js";

const table = new LatencyTable(simulatedDevice("orin-agx"));
const importance = Float32Array.of(1, 0, 2, 4);
const request = { importance, rows: 4, rowBytes: 4096, table, importanceTarget: 3 };

describe("exactPlan requests", () => {
  it("reads nothing for a target of 0, and nothing of a matrix without rows", () => {
    const empty = { importance: 0, latencyNs: 0, isProven: true, lowerBoundNs: 0 };
    const none = { starts: new Uint32Array(0), lengths: new Uint32Array(0), chunkCount: 0 };
    const zeros = new Float32Array(4);
    const noRows = { importance: new Float32Array(0), rows: 0 };
    for (const given of [{}, { importance: zeros }, noRows]) {
      expect(exactPlan({ ...request, ...given, importanceTarget: 0 })).toEqual({
        ...empty,
        plan: none,
      });
    }
  });

  it("leaves out only rows of no importance for a target of the total", () => {
    // Reading through row 1 costs less than a second read on this device.
    const { plan, isProven, importance: kept } = exactPlan({ ...request, importanceTarget: 7 });
    expect({ isProven, kept }).toEqual({ isProven: true, kept: 7 });
    expect([...plan.starts, ...plan.lengths, plan.chunkCount]).toEqual([0, 4, 1]);
    const wide = exactPlan({ ...request, rowBytes: 1_000_000, importanceTarget: 7 }).plan;
    expect([...wide.starts, ...wide.lengths, wide.chunkCount]).toEqual([0, 2, 1, 2, 2]);
  });

  it("counts a target that differs from the total by rounding as the total", () => {
    const rounded = 7 * (1 + Number.EPSILON);
    expect(exactPlan({ ...request, importanceTarget: rounded }).importance).toBe(7);
  });

  it.each([7.001, -1, NaN, Infinity])("refuses a target of %d", (importanceTarget) => {
    const run = (): unknown => exactPlan({ ...request, importanceTarget });
    expectError(run, "INVALID_REQUEST", "importanceTarget");
    expect(run).toThrow("between 0 and the sum of the importance (7)");
    expect(run).toThrow("multiply a share by the sum");
  });

  it("refuses what no selector accepts", () => {
    const nan = Float32Array.of(1, 0, NaN, 4);
    const cases = [
      [{ importance: nan }, "INVALID_IMPORTANCE", "importance[2]"],
      [{ rows: 5 }, "INVALID_REQUEST", "importance.length"],
      [{ rows: -1 }, "INVALID_REQUEST", "rows"],
      [{ rowBytes: 0 }, "INVALID_REQUEST", "rowBytes"],
      [{ maxLabels: 0 }, "INVALID_REQUEST", "maxLabels"],
    ] as const;
    for (const [given, code, path] of cases) {
      expectError(() => exactPlan({ ...request, ...given }), code, path);
    }
  });

  it("gives the caller arrays of its own, and leaves the request alone", () => {
    const before = importance.slice();
    const first = exactPlan(request);
    const starts = first.plan.starts.slice();
    exactPlan({ ...request, importanceTarget: 7 });
    expect(first.plan.starts).toEqual(starts);
    expect(importance).toEqual(before);
  });
});
