import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  contiguityDistribution,
  copyPlan,
  maskFromPlan,
  planFromMask,
  planFromRows,
  selectedRows,
  validatePlan,
  type ChunkPlan,
} from "../src/index.js";
import { expectError } from "./expect-error.js";
import { check } from "./property.js";

const plan = (...chunks: [number, number][]): ChunkPlan => ({
  starts: Uint32Array.from(chunks, ([start]) => start),
  lengths: Uint32Array.from(chunks, ([, length]) => length),
  chunkCount: chunks.length,
});

describe("plans", () => {
  test("rows and mask make the same plan", () => {
    const expected = plan([1, 2], [4, 1], [6, 2]);
    expect(planFromRows([1, 2, 4, 6, 7])).toEqual(expected);
    expect(planFromMask([0, 1, 1, 0, 1, 0, 1, 1])).toEqual(expected);
    expect(planFromMask([false, true, true, false, true, false, true, true])).toEqual(expected);
    expect(selectedRows(expected)).toBe(5);
  });

  test("nothing selected is a plan of no chunks", () => {
    for (const empty of [planFromRows([]), planFromMask([]), planFromMask([0, 0])]) {
      expect(empty).toEqual(plan());
      expect(selectedRows(empty)).toBe(0);
      validatePlan(empty, 0);
    }
  });

  test("mask -> plan -> mask is the identity, and plans are valid", () => {
    check(
      fc.property(fc.array(fc.boolean(), { maxLength: 200 }), (mask) => {
        const made = planFromMask(mask);
        validatePlan(made, mask.length);
        const rows = mask.flatMap((kept, row) => (kept ? [row] : []));
        expect(planFromRows(rows)).toEqual(made);
        expect(Array.from(maskFromPlan(made, mask.length), Boolean)).toEqual(mask);
        expect(selectedRows(made)).toBe(rows.length);
      }),
    );
  });

  test("entries past chunkCount do not count", () => {
    const workspace: ChunkPlan = {
      starts: Uint32Array.of(1, 99, 98),
      lengths: Uint32Array.of(2, 99, 98),
      chunkCount: 1,
    };
    validatePlan(workspace, 3);
    expect(selectedRows(workspace)).toBe(2);
    expect(Array.from(maskFromPlan(workspace, 3))).toEqual([0, 1, 1]);
    const kept = copyPlan(workspace);
    workspace.starts[0] = 0;
    expect(kept).toEqual(plan([1, 2]));
  });

  test.each<[string, ChunkPlan, number, string]>([
    ["unsorted", plan([4, 1], [1, 1]), 9, "starts[1]"],
    ["overlapping", plan([1, 3], [3, 1]), 9, "starts[1]"],
    ["touching, so not maximal", plan([1, 2], [3, 1]), 9, "starts[1]"],
    ["an empty chunk", plan([1, 0]), 9, "lengths[0]"],
    ["past the rows", plan([7, 3]), 9, "lengths[0]"],
    ["past 2^32", plan([0xffff_ffff, 0xffff_ffff]), 9, "lengths[0]"],
    ["a count past its arrays", { ...plan([1, 2]), chunkCount: 2 }, 9, "chunkCount"],
    ["a fractional count", { ...plan([1, 2]), chunkCount: 0.5 }, 9, "chunkCount"],
    ["NaN chunks", { ...plan([1, 2]), chunkCount: NaN }, 9, "chunkCount"],
  ])("refused: %s", (_, invalid, rows, path) => {
    expectError(() => validatePlan(invalid, rows), "INVALID_PLAN", path);
    expectError(() => maskFromPlan(invalid, rows), "INVALID_PLAN", path);
  });

  test.each([
    [[2, 1], 1],
    [[1, 1], 1],
    [[-1], 0],
    [[0.5], 0],
    [[NaN], 0],
    [[0xffff_ffff], 0],
  ])("rows %j are refused", (rows, index) => {
    expectError(() => planFromRows(rows), "INVALID_ARGUMENT", `sortedRows[${index}]`);
  });

  test.each([-1, 1.5, NaN])("%d rows are refused", (rows) => {
    expectError(() => validatePlan(plan(), rows), "INVALID_ARGUMENT", "rows");
  });
});

describe("contiguity distribution", () => {
  test("the paper's example", () => {
    expect(contiguityDistribution(planFromRows([1, 2, 4, 6, 7]))).toEqual({
      sizes: Uint32Array.of(1, 2),
      counts: Uint32Array.of(1, 2),
      meanRows: 5 / 3,
      modeRows: 2,
      chunkCount: 3,
      rows: 5,
    });
  });

  test("nothing selected", () => {
    expect(contiguityDistribution(plan())).toEqual({
      sizes: new Uint32Array(0),
      counts: new Uint32Array(0),
      meanRows: 0,
      modeRows: 0,
      chunkCount: 0,
      rows: 0,
    });
  });

  test("a tie of modes goes to the smaller size, and the plan is left alone", () => {
    const made = plan([0, 3], [5, 1]);
    expect(contiguityDistribution(made).modeRows).toBe(1);
    expect(made).toEqual(plan([0, 3], [5, 1]));
  });

  test("agrees with counting by hand", () => {
    check(
      fc.property(fc.array(fc.boolean(), { maxLength: 120 }), (mask) => {
        const runs = mask
          .map((kept) => (kept ? "1" : "0"))
          .join("")
          .split(/0+/)
          .map((run) => run.length)
          .filter((length) => length > 0);
        const distribution = contiguityDistribution(planFromMask(mask));
        const byHand = new Map<number, number>();
        for (const run of runs) byHand.set(run, (byHand.get(run) ?? 0) + 1);
        expect(
          new Map(Array.from(distribution.sizes, (size, i) => [size, distribution.counts[i]])),
        ).toEqual(byHand);
        expect(Array.from(distribution.sizes)).toEqual([...byHand.keys()].sort((a, b) => a - b));
        expect(distribution.chunkCount).toBe(runs.length);
        expect(distribution.rows).toBe(runs.reduce((sum, run) => sum + run, 0));
        if (runs.length > 0) {
          expect(distribution.meanRows).toBeCloseTo(distribution.rows / runs.length, 12);
          expect(byHand.get(distribution.modeRows)).toBe(Math.max(...byHand.values()));
        }
      }),
    );
  });
});
