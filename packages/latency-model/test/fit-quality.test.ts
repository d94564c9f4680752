import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fitQuality, proportionalBias } from "../src/index.js";
import { expectError } from "./expect-error.js";
import { check } from "./property.js";

const time = fc.double({ min: 1, max: 1e6, noNaN: true });
const pairs = fc.array(fc.tuple(time, time), { minLength: 2, maxLength: 50 });
const unzip = (rows: [number, number][]): [number[], number[]] => [
  rows.map(([m]) => m),
  rows.map(([, e]) => e),
];

describe("fit quality", () => {
  test.each([
    ["exact", [1, 2, 3], [1, 2, 3], 1, 0],
    ["the mean each time", [1, 2, 3], [2, 2, 2], 0, (1 + 0 + 1 / 3) / 3],
    ["twice as much each time", [1, 2, 3], [2, 4, 6], 1 - 14 / 2, 1],
    ["worked by hand", [100, 200], [110, 180], 1 - 500 / 5000, 0.1],
    ["equal measurements met", [5, 5], [5, 5], 1, 0],
    ["equal measurements missed", [5, 5], [5, 10], 0, 0.5],
  ])("P5: %s", (_, measured, estimated, r2, mape) => {
    const quality = fitQuality(measured, estimated);
    expect(quality.r2).toBeCloseTo(r2, 12);
    expect(quality.mape).toBeCloseTo(mape, 12);
  });

  test("does not depend on the unit; R2 is at most 1, MAPE at least 0", () => {
    check(
      fc.property(pairs, (rows) => {
        const [measured, estimated] = unzip(rows);
        const { r2, mape } = fitQuality(measured, estimated);
        expect(r2).toBeLessThanOrEqual(1);
        expect(mape).toBeGreaterThanOrEqual(0);
        const scaled = fitQuality(
          measured.map((ns) => 1024 * ns),
          estimated.map((ns) => 1024 * ns),
        );
        expect(scaled.mape).toBeCloseTo(mape, 9);
        if (Math.abs(r2) < 1e6) expect(scaled.r2).toBeCloseTo(r2, 6);
      }),
    );
  });
});

describe("proportional bias", () => {
  test("P5: of estimates that are off by a factor is that factor", () => {
    expect(proportionalBias([30, 60, 90], [10, 20, 30])).toBeCloseTo(3, 12);
  });

  test("P5: no other factor has a smaller squared relative error", () => {
    check(
      fc.property(pairs, fc.double({ min: 0.5, max: 2, noNaN: true }), (rows, change) => {
        const [measured, estimated] = unzip(rows);
        const loss = (bias: number): number =>
          rows.reduce((sum, [m, e]) => sum + ((bias * e - m) / m) ** 2, 0);
        const bias = proportionalBias(measured, estimated);
        expect(loss(bias)).toBeLessThanOrEqual(loss(bias * change) * (1 + 1e-9));
      }),
    );
  });

  test("of zeros alone is refused", () => {
    expectError(() => proportionalBias([1, 2], [0, 0]), "INVALID_ARGUMENT", "estimatedNs");
  });
});

describe.each([fitQuality, proportionalBias])("$name refuses", (measure) => {
  test.each<[string, number[], number[], string]>([
    ["no measurements", [], [], "measuredNs"],
    ["fewer estimates", [1, 2], [1], "estimatedNs"],
    ["a measurement of 0", [1, 0], [1, 1], "measuredNs[1]"],
    ["a measurement of NaN", [NaN, 1], [1, 1], "measuredNs[0]"],
    ["an infinite estimate", [1, 1], [1, Infinity], "estimatedNs[1]"],
    ["a negative estimate", [1, 1], [-1, 1], "estimatedNs[0]"],
  ])("%s", (_, measured, estimated, path) => {
    expectError(() => measure(measured, estimated), "INVALID_ARGUMENT", path);
  });
});
