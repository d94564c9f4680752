import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allocateSparsity, errorAtSparsity, type SparsityCurve } from "../src/index.js";
import { expectError } from "./expect-error.js";
import { check } from "./property.js";

const LEVELS = [0.25, 0.5, 0.75, 1];
/** Steps that divide every matrix of the toys into whole levels of the brute force. */
const STEP = 0.05;

/** Curves whose errors rise by ascending amounts (convex), or by any. */
function curves(convex: boolean): fc.Arbitrary<SparsityCurve[]> {
  const rises = fc.array(fc.double({ min: 0.001, max: 1, noNaN: true }), {
    minLength: LEVELS.length,
    maxLength: LEVELS.length,
  });
  const curve = fc.tuple(fc.integer({ min: 1, max: 3 }), rises);
  return fc.array(curve, { minLength: 1, maxLength: 3 }).map((all) =>
    all.map(([sizeBytes, raw], index) => {
      const sorted = convex ? [...raw].sort((a, b) => a - b) : raw;
      let error = 0;
      const points = sorted.map((rise, i) => ({ sparsity: LEVELS[i], error: (error += rise) }));
      return { name: `m${index}`, group: 0, sizeBytes, points };
    }),
  );
}

const sizeOf = (all: readonly SparsityCurve[]) => all.reduce((sum, c) => sum + c.sizeBytes, 0);

/** Least error of any allocation that hands out at least `overall`, in steps of STEP of all bytes. */
function bruteForce(all: readonly SparsityCurve[], overall: number): number {
  const step = STEP * sizeOf(all);
  const search = (index: number, leftBytes: number): number => {
    if (index === all.length) return leftBytes <= 1e-9 ? 0 : Infinity;
    let best = Infinity;
    for (let given = 0; given <= all[index].sizeBytes + 1e-9; given += step) {
      const error = errorAtSparsity(all[index].points, Math.min(1, given / all[index].sizeBytes));
      best = Math.min(best, error + search(index + 1, leftBytes - given));
    }
    return best;
  };
  return search(0, overall * sizeOf(all));
}

describe("TEAL's greedy allocation", () => {
  it("hands out exactly the share of bytes that was asked for", () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    check(
      fc.property(curves(false), share, (all, overall) => {
        const { sparsity, sparsities, error } = allocateSparsity(all, overall);
        expect(sparsity).toBeCloseTo(overall, 9);
        const sum = all.reduce((s, c) => s + errorAtSparsity(c.points, sparsities[c.name]), 0);
        expect(error).toBeCloseTo(sum, 9);
        for (const value of Object.values(sparsities)) {
          expect(value).toBeGreaterThanOrEqual(0);
          expect(value).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  it("is as good as the best of all allocations, to a step, where curves are convex", () => {
    const share = fc.integer({ min: 0, max: 20 }).map((n) => n * STEP);
    check(
      fc.property(curves(true), share, (all, overall) => {
        const greedy = allocateSparsity(all, overall, { stepShare: STEP }).error;
        const oneStepMore = allocateSparsity(all, Math.min(1, overall + STEP), { stepShare: STEP });
        const best = bruteForce(all, overall);
        expect(greedy).toBeLessThanOrEqual(best + (oneStepMore.error - greedy) + 1e-9);
      }),
      60,
    );
  });

  it("is worse than the best by a bounded share on average where they are not", () => {
    const ratios: number[] = [];
    check(
      fc.property(curves(false), (all) => {
        const greedy = allocateSparsity(all, 0.5, { stepShare: STEP }).error;
        ratios.push(greedy / bruteForce(all, 0.5));
      }),
      100,
    );
    const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
    const worst = Math.max(...ratios);
    console.log(`greedy to best: mean ${mean.toFixed(3)}, worst ${worst.toFixed(3)}`);
    expect(mean).toBeLessThan(1.3);
  });

  it("never takes a matrix's sparsity back as the overall sparsity grows", () => {
    const two = fc.tuple(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
    );
    check(
      fc.property(curves(false), two, (all, shares) => {
        const [low, high] = [...shares].sort((a, b) => a - b);
        const less = allocateSparsity(all, low);
        const more = allocateSparsity(all, high);
        for (const { name } of all) {
          expect(more.sparsities[name]).toBeGreaterThanOrEqual(less.sparsities[name] - 1e-9);
        }
        expect(more.error).toBeGreaterThanOrEqual(less.error - 1e-9);
      }),
    );
  });

  it("gives each layer the overall share, most of it to what feels it least", () => {
    const points = (error: number) => [{ sparsity: 1, error }];
    const all = [
      { name: "a", group: 0, sizeBytes: 10, points: points(1) },
      { name: "b", group: 0, sizeBytes: 10, points: points(0.1) },
      { name: "c", group: 1, sizeBytes: 40, points: points(5) },
    ];
    const { sparsities, error } = allocateSparsity(all, 0.25);
    expect(sparsities["a"]).toBe(0);
    expect(sparsities["b"]).toBeCloseTo(0.5, 9);
    expect(sparsities["c"]).toBeCloseTo(0.25, 9);
    expect(error).toBeCloseTo((0.05 + 1.25) / 2, 9);
  });

  const curve = { name: "a", group: 0, sizeBytes: 1, points: [{ sparsity: 0.5, error: 1 }] };
  const cases: [title: string, curves: SparsityCurve[], overall: number, path: string][] = [
    ["no curves", [], 0.5, "curves"],
    ["a share above 1", [curve], 1.1, "overallSparsity"],
    ["NaN", [curve], NaN, "overallSparsity"],
    ["more than the curve reaches", [curve], 0.6, "overallSparsity"],
    ["no bytes", [{ ...curve, sizeBytes: 0 }], 0.5, "curves[0].sizeBytes"],
    ["no points", [{ ...curve, points: [] }], 0.5, "curves[0].points"],
    [
      "points out of order",
      [{ ...curve, points: [curve.points[0], curve.points[0]] }],
      0.5,
      "curves[0].points[1].sparsity",
    ],
    [
      "a negative error",
      [{ ...curve, points: [{ sparsity: 1, error: -1 }] }],
      0.5,
      "curves[0].points[0].error",
    ],
  ];
  it.each(cases)("refuses %s", (_, all, overall, path) => {
    expectError(() => allocateSparsity(all, overall), "INVALID_REQUEST", path);
  });
});
