import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findLiveArcs } from "../src/exact/live-arcs.js";
import { PricedPaths, solveDual } from "../src/exact/priced-paths.js";
import { findTail, sumRuns, type RunProblem } from "../src/exact/run-problem.js";
import { spliceBest } from "../src/exact/splice.js";
import { bruteForceLatencyNs, exactImportances, runLatencies } from "./brute-force.js";
import { check } from "./property.js";

function problemOf(importance: Float32Array, latencies: number[], target: number): RunProblem {
  const rows = importance.length;
  const prefix = new Float64Array(rows + 1);
  importance.forEach((value, row) => (prefix[row + 1] = prefix[row] + value));
  const runNs = Float64Array.from(latencies);
  return { rows, runNs, prefix, needed: target, ...findTail(runNs, rows) };
}

/** The runs of every subset of the rows, as pairs `start, end`. */
function allPlans(rows: number): number[][] {
  return Array.from({ length: 2 ** rows }, (_, mask) => {
    const pairs: number[] = [];
    for (let row = 0; row < rows; row++) {
      if (((mask >> row) & 1) === 0) continue;
      if (pairs[pairs.length - 1] === row) pairs[pairs.length - 1]++;
      else pairs.push(row, row + 1);
    }
    return pairs;
  });
}

/** Small problems, half of them with a stretch of run lengths whose cost is proportional. */
const problems = fc.integer({ min: 1, max: 9 }).chain((rows) =>
  fc
    .record({
      latencies: runLatencies(rows),
      tail: fc.option(fc.integer({ min: 1, max: rows })),
      importance: exactImportances(rows),
      share: fc.integer({ min: 1, max: 8 }),
    })
    .map(({ latencies, tail, importance, share }) => {
      const runNs = latencies.map((ns, length) =>
        tail === null || length < tail ? ns : Math.ceil(latencies[tail] / tail) * length,
      );
      const total = importance.reduce((sum, value) => sum + value, 0);
      return problemOf(importance, runNs, (share * total) / 8);
    }),
);

const price = fc.constantFrom(0, 0.25, 1, 7, 300, 100_000);

describe("the parts of exactPlan", () => {
  it("the tail is where the cost of a run is proportional to its length", () => {
    const tail = (...runNs: number[]): number =>
      findTail(Float64Array.from(runNs), runNs.length - 1).tailRows;
    expect(tail(0, 5, 6, 9, 12)).toBe(2);
    expect(tail(0, 5, 6, 9, 13)).toBe(4);
    expect(tail(0, 3, 6, 9, 12)).toBe(1);
    expect(tail(0)).toBe(1);
  });

  it("priced paths are the least of all subsets, from both ends and through every run", () => {
    check(
      fc.property(problems, price, (problem, price) => {
        const paths = new PricedPaths(problem, price);
        const costs = allPlans(problem.rows).map((pairs) => {
          const { latencyNs, importance } = sumRuns(problem, pairs);
          return { pairs, cost: latencyNs - price * importance };
        });
        const least = Math.min(...costs.map(({ cost }) => cost));
        const slackNs = paths.slackNs(problem.runNs[problem.rows]);
        const fromStart = paths.fromStart();
        expect(Math.abs(paths.toEnd[0] - least)).toBeLessThanOrEqual(slackNs);
        expect(Math.abs(fromStart[problem.rows + 1] - least)).toBeLessThanOrEqual(slackNs);
        // The best plan that leaves out a row is the sum of the best before and after it.
        for (let row = 0; row < problem.rows; row++) {
          const without = costs.filter(({ pairs }) => !contains(pairs, row));
          const both = fromStart[row + 1] + paths.toEnd[row + 1];
          const expected = Math.min(...without.map(({ cost }) => cost));
          expect(Math.abs(both - expected)).toBeLessThanOrEqual(2 * slackNs);
        }
        const pairs: number[] = [];
        paths.appendRuns(0, pairs);
        const own = sumRuns(problem, pairs);
        expect(Math.abs(own.latencyNs - price * own.importance - least)).toBeLessThanOrEqual(
          slackNs,
        );
      }),
      300,
    );
  });

  it("the dual's bound is below the optimum and its plan above, no price bounds higher", () => {
    check(
      fc.property(problems, price, (problem, otherPrice) => {
        if (problem.needed === 0) return;
        const { rows, prefix, runNs, needed } = problem;
        const importance = Float32Array.from({ length: rows }, (_, i) => prefix[i + 1] - prefix[i]);
        const optimumNs = bruteForceLatencyNs(importance, runNs, needed);
        const { paths, best } = solveDual(problem);
        const limitNs = best.latencyNs;
        expect(best.importance).toBeGreaterThanOrEqual(needed);
        expect(limitNs).toBeGreaterThanOrEqual(optimumNs);
        expect(paths.boundNs(limitNs)).toBeLessThanOrEqual(optimumNs);
        const other = new PricedPaths(problem, otherPrice);
        expect(other.boundNs(limitNs)).toBeLessThanOrEqual(
          paths.boundNs(limitNs) + paths.slackNs(limitNs) + 1e-12 * optimumNs,
        );
      }),
      300,
    );
  });

  it("no run of a plan below the limit is struck out", () => {
    check(
      fc.property(problems, price, (problem, price) => {
        const { rows, runNs, needed } = problem;
        const paths = new PricedPaths(problem, price);
        const plans = allPlans(rows).map((pairs) => sumRuns(problem, pairs));
        const limitNs = runNs[rows];
        const arcs = findLiveArcs([paths], [paths.fromStart()], limitNs, Infinity);
        if (arcs === undefined) throw new Error("there is no limit to the runs");
        for (const { pairs, importance, latencyNs } of plans) {
          if (importance < needed || latencyNs >= limitNs) continue;
          for (let index = 0; index < pairs.length; index += 2) {
            const to = pairs[index + 1] + 1;
            const into = arcs.froms.subarray(arcs.ends[to - 1], arcs.ends[to]);
            expect(into).toContain(pairs[index]);
          }
        }
        const live = arcs.ends[rows + 1];
        if (live > 1)
          expect(findLiveArcs([paths], [paths.fromStart()], limitNs, 1)).toBeUndefined();
      }),
      300,
    );
  });

  it("a spliced plan is the best cut of the two that has the needed importance", () => {
    const masks = fc.tuple(fc.nat(), fc.nat());
    check(
      fc.property(problems, masks, (problem, [leftSeed, rightSeed]) => {
        const { rows, needed } = problem;
        const plans = allPlans(rows);
        const left = sumRuns(problem, plans[leftSeed % plans.length]);
        const right = sumRuns(problem, plans[rightSeed % plans.length]);
        const masked = Array.from({ length: rows + 1 }, (_, cut) =>
          plans.findIndex((pairs) =>
            Array.from({ length: rows }, (_, row) => row).every(
              (row) => contains(pairs, row) === contains((row < cut ? left : right).pairs, row),
            ),
          ),
        );
        const enough = masked.filter((mask) => sumRuns(problem, plans[mask]).importance >= needed);
        const spliced = spliceBest(problem, left, right);
        expect(spliced === undefined).toBe(enough.length === 0);
        if (spliced === undefined) return;
        expect(spliced.importance).toBeGreaterThanOrEqual(needed);
        const possible = enough.map((mask) => JSON.stringify(plans[mask]));
        expect(possible).toContain(JSON.stringify(spliced.pairs));
      }),
      200,
    );
  });
});

function contains(pairs: readonly number[], row: number): boolean {
  for (let index = 0; index < pairs.length; index += 2) {
    if (row >= pairs[index] && row < pairs[index + 1]) return true;
  }
  return false;
}
