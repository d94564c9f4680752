import { LatencyTable, simulatedDevice, SIMULATED_DEVICES } from "@neuron-chunking/latency-model";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createSelector, exactPlan, type ExactPlan, type ExactPlanRequest } from "../src/index.js";
import {
  bruteForceLatencyNs,
  exactImportances,
  runLatencies,
  tabledLatencyNs,
} from "./brute-force.js";
import { logNormalImportance } from "./generated-importance.js";
import { check } from "./property.js";

/** Bytes of a row in tables made of one sample per run length. */
const ROW_BYTES = 1000;
const TOLERANCE = 1e-12;

/** A table whose run of `r` rows costs `runNs[r]`. */
function tableOf(runNs: readonly number[]): LatencyTable {
  const lengths = runNs.slice(1);
  const saturationBytes = lengths.length * ROW_BYTES;
  return new LatencyTable({
    schemaVersion: 1,
    name: "given",
    origin: "modelled",
    source: "test",
    table: { sizesBytes: lengths.map((_, index) => (index + 1) * ROW_BYTES), latencyNs: lengths },
    saturationBytes,
    tailNsPerByte: lengths[lengths.length - 1] / saturationBytes,
  });
}

function totalOf(importance: Float32Array): number {
  return importance.reduce((sum, value) => sum + value, 0);
}

/** The plan is well formed, its chunks are maximal, and its sums are those reported and asked for. */
function expectConsistent(request: ExactPlanRequest, result: ExactPlan): void {
  const { plan, importance, latencyNs, lowerBoundNs } = result;
  const runNs = request.table.rowLatencyNs(request.rowBytes, request.rows);
  let [end, sum, cost] = [-1, 0, 0];
  for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
    expect(plan.starts[chunk]).toBeGreaterThan(end);
    expect(plan.lengths[chunk]).toBeGreaterThan(0);
    end = plan.starts[chunk] + plan.lengths[chunk];
    for (let row = plan.starts[chunk]; row < end; row++) sum += request.importance[row];
    cost += runNs[plan.lengths[chunk]];
  }
  expect(end).toBeLessThanOrEqual(request.rows);
  const total = totalOf(request.importance);
  expect(Math.abs(importance - sum)).toBeLessThanOrEqual(TOLERANCE * total);
  expect(Math.abs(latencyNs - cost)).toBeLessThanOrEqual(TOLERANCE * cost);
  expect(importance).toBeGreaterThanOrEqual(request.importanceTarget - 2 * TOLERANCE * total);
  expect(lowerBoundNs).toBeLessThanOrEqual(latencyNs);
}

/** A case of up to `maxRows` rows: table, importance, and the share of the importance that is asked for. */
function cases(maxRows: number) {
  return fc.integer({ min: 1, max: maxRows }).chain((rows) =>
    fc.record({
      runNs: runLatencies(rows),
      importance: exactImportances(rows),
      share: fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 0.5, 1)),
      // Targets that a subset meets exactly are where "at least" matters.
      mask: fc.option(fc.nat(2 ** rows - 1)),
    }),
  );
}

function targetOf({
  importance,
  share,
  mask,
}: {
  importance: Float32Array;
  share: number;
  mask: number | null;
}) {
  // On the grid of the importances: what lies between is the same as the next one, or less than the tolerance.
  if (mask === null) return Math.round(share * totalOf(importance) * 1024) / 1024;
  return importance.reduce((sum, value, row) => ((mask >> row) & 1 ? sum + value : sum), 0);
}

describe("exactPlan against all subsets", () => {
  it("is the fastest plan for any table and importance", () => {
    check(
      fc.property(cases(12), ({ runNs, ...rest }) => {
        const { importance } = rest;
        const target = targetOf(rest);
        const rows = importance.length;
        const table = tableOf(runNs);
        const request = { importance, rows, rowBytes: ROW_BYTES, table, importanceTarget: target };
        const result = exactPlan(request);
        expectConsistent(request, result);
        expect(result.isProven).toBe(true);
        const least = bruteForceLatencyNs(importance, runNs, target);
        expect(Math.abs(result.latencyNs - least)).toBeLessThanOrEqual(TOLERANCE * least);
        expect(result.lowerBoundNs).toBe(result.latencyNs);
      }),
      1000,
    );
  });

  it("with importances that are rounded when summed", () => {
    const smooth = fc.float({ min: 0, max: 10, noNaN: true });
    check(
      fc.property(
        fc.array(smooth, { minLength: 1, maxLength: 11 }).chain((values) =>
          fc.record({
            values: fc.constant(values),
            runNs: runLatencies(values.length),
            share: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
          }),
        ),
        ({ values, runNs, share }) => {
          const importance = Float32Array.from(values);
          const [rows, table] = [values.length, tableOf(runNs)];
          const importanceTarget = share * totalOf(importance);
          const request = { importance, rows, rowBytes: ROW_BYTES, table, importanceTarget };
          const result = exactPlan(request);
          expectConsistent(request, result);
          expect(result.isProven).toBe(true);
          // What counts as reaching the target is given by the tolerance: the optimum lies between these two.
          const slack = 4 * TOLERANCE * totalOf(importance);
          const easier = bruteForceLatencyNs(importance, runNs, importanceTarget - slack);
          const harder = bruteForceLatencyNs(importance, runNs, importanceTarget + slack);
          expect(result.latencyNs).toBeGreaterThanOrEqual(easier * (1 - TOLERANCE));
          expect(result.latencyNs).toBeLessThanOrEqual(harder * (1 + TOLERANCE));
        },
      ),
      300,
    );
  });

  it("on the tables of the simulated devices, past saturation too", () => {
    const request = fc.record({
      device: fc.constantFrom(...SIMULATED_DEVICES),
      rowBytes: fc.constantFrom(256, 9728, 37_888, 100_000, 400_000),
      importance: fc.integer({ min: 1, max: 12 }).chain(exactImportances),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    check(
      fc.property(request, ({ device, rowBytes, importance, share }) => {
        const table = new LatencyTable(simulatedDevice(device));
        const rows = importance.length;
        const importanceTarget = Math.floor(share * totalOf(importance) * 1024) / 1024;
        const result = exactPlan({ importance, rows, rowBytes, table, importanceTarget });
        const runNs = table.rowLatencyNs(rowBytes, rows);
        const least = bruteForceLatencyNs(importance, runNs, importanceTarget);
        expect(result.isProven).toBe(true);
        expect(Math.abs(result.latencyNs - least)).toBeLessThanOrEqual(10 * TOLERANCE * least);
      }),
      300,
    );
  });

  it("agrees with a table over all sums where there are too many subsets", () => {
    const request = fc.integer({ min: 20, max: 60 }).chain((rows) =>
      fc.record({
        runNs: runLatencies(rows),
        values: fc.array(fc.nat(20), { minLength: rows, maxLength: rows }),
        share: fc.double({ min: 0.05, max: 1, noNaN: true }),
      }),
    );
    check(
      fc.property(request, ({ runNs, values, share }) => {
        const importance = Float32Array.from(values);
        const [rows, table] = [values.length, tableOf(runNs)];
        const importanceTarget = Math.round(share * totalOf(importance));
        const request = { importance, rows, rowBytes: ROW_BYTES, table, importanceTarget };
        const result = exactPlan(request);
        expectConsistent(request, result);
        expect(result.isProven).toBe(true);
        const least = tabledLatencyNs(values, runNs, importanceTarget);
        expect(Math.abs(result.latencyNs - least)).toBeLessThanOrEqual(TOLERANCE * least);
      }),
      100,
    );
  });

  it("with few labels, is still a plan and a bound", () => {
    let unproven = 0;
    check(
      fc.property(cases(12), fc.integer({ min: 1, max: 30 }), ({ runNs, ...rest }, maxLabels) => {
        const { importance } = rest;
        const target = targetOf(rest);
        const [rows, table] = [importance.length, tableOf(runNs)];
        const request = { importance, rows, rowBytes: ROW_BYTES, table, importanceTarget: target };
        const result = exactPlan({ ...request, maxLabels });
        expectConsistent(request, result);
        const least = bruteForceLatencyNs(importance, runNs, target);
        expect(result.latencyNs).toBeGreaterThanOrEqual(least * (1 - TOLERANCE));
        expect(result.lowerBoundNs).toBeLessThanOrEqual(least * (1 + TOLERANCE));
        if (result.isProven) expect(result.latencyNs).toBeLessThanOrEqual(least * (1 + TOLERANCE));
        else unproven++;
      }),
      500,
    );
    expect(unproven).toBeGreaterThan(0);
  });
});

describe("exactPlan on larger matrices", () => {
  const rows = 896;
  const importance = logNormalImportance(rows, 5);

  for (const device of SIMULATED_DEVICES) {
    for (const rowBytes of [256, 1792, 9728]) {
      it(`proves ${rows} rows of ${rowBytes} B on ${device}, and is never slower than Algorithm 1`, () => {
        const table = new LatencyTable(simulatedDevice(device));
        const selector = createSelector("chunk", { maxRows: rows });
        const { starts, lengths, chunkCount } = selector.select({
          importance,
          rows,
          rowBytes,
          table,
          budgetRows: rows / 2,
        });
        let [importanceTarget, chunkNs] = [0, 0];
        for (let chunk = 0; chunk < chunkCount; chunk++) {
          const end = starts[chunk] + lengths[chunk];
          for (let row = starts[chunk]; row < end; row++) importanceTarget += importance[row];
          chunkNs += table.latencyNs(lengths[chunk] * rowBytes);
        }
        const request = { importance, rows, rowBytes, table, importanceTarget };
        const result = exactPlan(request);
        expectConsistent(request, result);
        expect(result.isProven).toBe(true);
        expect(result.latencyNs).toBeLessThanOrEqual(chunkNs * (1 + TOLERANCE));
        // Running out of labels must not change what is claimed, only how much.
        const hasty = exactPlan({ ...request, maxLabels: 50 });
        expectConsistent(request, hasty);
        expect(hasty.isProven).toBe(false);
        expect(hasty.lowerBoundNs).toBeLessThanOrEqual(result.latencyNs);
        expect(hasty.latencyNs).toBeGreaterThanOrEqual(result.latencyNs * (1 - TOLERANCE));
      });
    }
  }
});
