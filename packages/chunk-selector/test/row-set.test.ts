import { planFromRows } from "@neuron-chunking/latency-model";
import fc from "fast-check";
import { expect, test } from "vitest";
import { PlanBuilder } from "../src/plan-builder.js";
import { RowSet } from "../src/row-set.js";
import { rowsOf } from "./naive.js";
import { check } from "./property.js";

const ROWS = 200;
const range = fc
  .tuple(fc.nat(ROWS - 1), fc.nat(ROWS))
  .map(([start, length]) => [start, Math.max(1, Math.min(length, ROWS - start))] as const);

test("agrees with a Set, whatever the words that a range touches", () => {
  const set = new RowSet(ROWS);
  check(
    fc.property(
      fc.integer({ min: 1, max: ROWS }),
      fc.array(range, { maxLength: 30 }),
      (rows, ranges) => {
        set.clear(rows);
        const model = new Set<number>();
        for (const [start, wanted] of ranges) {
          const length = Math.min(wanted, rows - start);
          if (length < 1) continue;
          const members = Array.from({ length }, (_, offset) => start + offset);
          expect(set.overlaps(start, length)).toBe(members.some((row) => model.has(row)));
          if (length % 3 === 0) continue;
          set.add(start, length);
          for (const row of members) model.add(row);
        }
        const plan = new PlanBuilder(rows).clear();
        set.appendRuns(rows, plan);
        const expected = [...model].sort((a, b) => a - b);
        expect(rowsOf(plan)).toEqual(expected);
        expect(plan.chunkCount).toBe(planFromRows(expected).chunkCount);
      },
    ),
    500,
  );
});

test.each([1, 31, 32, 33, 64, 96, 100])("%d rows, all of them", (rows) => {
  const set = new RowSet(rows);
  set.clear(rows);
  set.add(0, rows);
  const plan = new PlanBuilder(rows).clear();
  set.appendRuns(rows, plan);
  expect([plan.chunkCount, plan.starts[0], plan.lengths[0]]).toEqual([1, 0, rows]);
});
