import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  estimatePlanNs,
  LatencyTable,
  monotoneLatencyNs,
  planFromMask,
  planFromRows,
  saturationSizeBytes,
  type DeviceProfile,
} from "../src/index.js";
import { expectError } from "./expect-error.js";
import { check } from "./property.js";

const profile: DeviceProfile = {
  schemaVersion: 1,
  name: "test",
  origin: "modelled",
  source: "made up",
  table: { sizesBytes: [1000, 2000, 4000, 8000], latencyNs: [100, 150, 200, 1000] },
  saturationBytes: 4000,
  tailNsPerByte: 0.06,
};

const arbitraryProfile = fc
  .tuple(
    fc.array(fc.tuple(fc.integer({ min: 1, max: 5000 }), fc.double({ min: 0, max: 500 })), {
      minLength: 1,
      maxLength: 12,
    }),
    fc.nat(),
    fc.double({ min: 1e-3, max: 10, noNaN: true }),
  )
  .map(([steps, pick, tailNsPerByte]): DeviceProfile => {
    const sizesBytes: number[] = [];
    const latencyNs: number[] = [];
    for (const [size, latency] of steps) {
      sizesBytes.push((sizesBytes.at(-1) ?? 0) + size);
      latencyNs.push((latencyNs.at(-1) ?? 1) + (Number.isNaN(latency) ? 0 : latency));
    }
    const saturationBytes = sizesBytes[pick % sizesBytes.length];
    return { ...profile, table: { sizesBytes, latencyNs }, saturationBytes, tailNsPerByte };
  });

describe("T[s]", () => {
  const table = new LatencyTable(profile);

  test.each([
    [0, 0, "nothing is read"],
    [1, 100, "below the first sample"],
    [1000, 100, "at the first sample"],
    [1500, 125, "between samples"],
    [2000, 150, "at a sample"],
    [2500, 162.5, "between samples"],
    [4000, 200, "at saturation"],
    [4001, 4001 * 0.06, "past saturation, proportional"],
    [8000, 480, "a sample past saturation is not used"],
    [1e9, 6e7, "far past saturation"],
  ])("of %d bytes is %d ns: %s", (sizeBytes, latencyNs) => {
    expect(table.latencyNs(sizeBytes)).toBeCloseTo(latencyNs, 9);
  });

  test("a tail below the sample at saturation never makes a larger read cheaper", () => {
    const shallow = new LatencyTable({ ...profile, tailNsPerByte: 0.01 });
    expect(shallow.latencyNs(4001)).toBe(200);
    expect(shallow.latencyNs(40_000)).toBe(400);
  });

  test("saturation between samples", () => {
    const between = new LatencyTable({ ...profile, saturationBytes: 3000, tailNsPerByte: 1e-6 });
    expect(between.latencyNs(3000)).toBe(175);
    expect(between.latencyNs(3999)).toBe(175);
  });

  test("a single sample", () => {
    const single = new LatencyTable({
      ...profile,
      table: { sizesBytes: [4096], latencyNs: [1000] },
      saturationBytes: 4096,
      tailNsPerByte: 0.25,
    });
    expect([1, 4096, 8192].map((size) => single.latencyNs(size))).toEqual([1000, 1000, 2048]);
  });

  test("is non-decreasing everywhere and exact at the samples", () => {
    check(
      fc.property(
        arbitraryProfile,
        fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 2, maxLength: 30 }),
        (made, sizes) => {
          const lookup = new LatencyTable(made);
          const { sizesBytes, latencyNs } = made.table;
          sizesBytes.forEach((size, index) => {
            if (size <= made.saturationBytes) expect(lookup.latencyNs(size)).toBe(latencyNs[index]);
          });
          const probed = [...sizes, ...sizesBytes, made.saturationBytes + 1].sort((a, b) => a - b);
          const times = probed.map((size) => lookup.latencyNs(size));
          for (let i = 1; i < times.length; i++) {
            // Interpolation may round the last bit.
            expect(times[i]).toBeGreaterThanOrEqual(times[i - 1] * (1 - 1e-12));
          }
        },
      ),
    );
  });

  test.each([-1, NaN, Infinity])("%d bytes are refused", (sizeBytes) => {
    expectError(() => table.latencyNs(sizeBytes), "INVALID_ARGUMENT", "sizeBytes");
  });

  test("an invalid profile is refused, and later changes to the object have no effect", () => {
    expectError(
      () => new LatencyTable({ ...profile, tailNsPerByte: -1 }),
      "INVALID_PROFILE",
      "tailNsPerByte",
    );
    const sizesBytes = [1000, 2000];
    const own = new LatencyTable({
      ...profile,
      table: { sizesBytes, latencyNs: [1, 2] },
      saturationBytes: 2000,
    });
    sizesBytes[1] = 5;
    expect(own.latencyNs(1500)).toBe(1.5);
    expect([own.name, own.saturationBytes, own.tailNsPerByte]).toEqual(["test", 2000, 0.06]);
  });
});

describe("T by rows", () => {
  test("equals T of the bytes, is cached, and grows without touching what was handed out", () => {
    const table = new LatencyTable(profile);
    const first = table.rowLatencyNs(700, 5);
    expect(Array.from(first)).toEqual([0, 1, 2, 3, 4, 5].map((r) => table.latencyNs(r * 700)));
    expect(table.rowLatencyNs(700, 5)).toBe(first);
    expect(table.rowLatencyNs(700, 2)).toBe(first);
    const longer = table.rowLatencyNs(700, 9);
    expect(longer.length).toBe(10);
    expect(Array.from(longer.subarray(0, 6))).toEqual(Array.from(first));
    expect(table.rowLatencyNs(701, 5)).not.toBe(longer);
    expect(table.rowLatencyNs(700, 0)).toBe(longer);
  });

  test("memory is bounded when row widths are swept", () => {
    const table = new LatencyTable(profile);
    const first = table.rowLatencyNs(1, 3);
    for (let rowBytes = 2; rowBytes <= 100; rowBytes++) table.rowLatencyNs(rowBytes, 3);
    expect(table.rowLatencyNs(1, 3)).not.toBe(first);
    expect(table.rowLatencyNs(1, 3)).toEqual(first);
  });

  test.each([
    [0, 5, "rowBytes"],
    [1.5, 5, "rowBytes"],
    [NaN, 5, "rowBytes"],
    [8, -1, "maxRows"],
    [8, NaN, "maxRows"],
  ])("%d bytes and %d rows are refused", (rowBytes, maxRows, path) => {
    const table = new LatencyTable(profile);
    expectError(() => table.rowLatencyNs(rowBytes, maxRows), "INVALID_ARGUMENT", path);
  });
});

describe("estimate of a plan", () => {
  const table = new LatencyTable(profile);

  test("is the sum of T over its chunks", () => {
    // Chunks of 1, 2 and 6 rows of 1000 bytes: T[1000] + T[2000] + 6000 * tail.
    const plan = planFromRows([0, 2, 3, 10, 11, 12, 13, 14, 15]);
    expect(estimatePlanNs(plan, 1000, table)).toBeCloseTo(100 + 150 + 360, 9);
    expect(estimatePlanNs(planFromRows([]), 1000, table)).toBe(0);
    expect(estimatePlanNs(planFromRows([0, 5]), 1_000_000, table)).toBeCloseTo(120_000, 6);
  });

  test("agrees with T chunk by chunk, on any profile", () => {
    check(
      fc.property(
        arbitraryProfile,
        fc.array(fc.boolean(), { maxLength: 100 }),
        fc.integer({ min: 1, max: 9000 }),
        (made, mask, rowBytes) => {
          const lookup = new LatencyTable(made);
          const plan = planFromMask(mask);
          let sum = 0;
          for (const rows of plan.lengths) sum += lookup.latencyNs(rows * rowBytes);
          expect(estimatePlanNs(plan, rowBytes, lookup)).toBe(sum);
        },
      ),
    );
  });

  test.each([0, -1, 0.5, NaN])("rows of %d bytes are refused", (rowBytes) => {
    expectError(
      () => estimatePlanNs(planFromRows([0]), rowBytes, table),
      "INVALID_ARGUMENT",
      "rowBytes",
    );
  });
});

describe("saturation size", () => {
  test("is the smallest size within the fraction of the peak", () => {
    // Bytes per ns: 1, 1.98, 2 and 1.5.
    const sizes = [100, 198, 400, 600];
    const latencies = [100, 100, 200, 400];
    expect(saturationSizeBytes(sizes, latencies)).toBe(198);
    expect(saturationSizeBytes(sizes, latencies, 1)).toBe(400);
    expect(saturationSizeBytes(sizes, latencies, 0.5)).toBe(100);
    expect(saturationSizeBytes([4096], [123])).toBe(4096);
  });

  test.each<[string, number[], number[], number, string]>([
    ["no samples", [], [], 0.99, "sizesBytes"],
    ["unequal lengths", [1, 2], [1], 0.99, "latencyNs"],
    ["unsorted", [2, 1], [1, 1], 0.99, "sizesBytes[1]"],
    ["a zero size", [0], [1], 0.99, "sizesBytes[0]"],
    ["a zero latency", [1], [0], 0.99, "latencyNs[0]"],
    ["a NaN latency", [1], [NaN], 0.99, "latencyNs[0]"],
    ["fraction 0", [1], [1], 0, "fraction"],
    ["fraction above 1", [1], [1], 1.1, "fraction"],
    ["fraction NaN", [1], [1], NaN, "fraction"],
  ])("refused: %s", (_, sizes, latencies, fraction, path) => {
    expectError(() => saturationSizeBytes(sizes, latencies, fraction), "INVALID_ARGUMENT", path);
  });
});

describe("monotone latencies", () => {
  test("pools what decreases, by weight", () => {
    expect(monotoneLatencyNs([1, 3, 2, 4])).toEqual([1, 2.5, 2.5, 4]);
    expect(monotoneLatencyNs([3, 2, 1])).toEqual([2, 2, 2]);
    expect(monotoneLatencyNs([3, 1], [1, 3])).toEqual([1.5, 1.5]);
    expect(monotoneLatencyNs([])).toEqual([]);
  });

  test("the result is non-decreasing, keeps the mean, and leaves a monotone input alone", () => {
    check(
      fc.property(
        fc.array(fc.double({ min: 1, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 }),
        (latencies) => {
          const fitted = monotoneLatencyNs(latencies);
          for (let i = 1; i < fitted.length; i++) {
            expect(fitted[i]).toBeGreaterThanOrEqual(fitted[i - 1]);
          }
          const total = (values: number[]): number => values.reduce((a, b) => a + b, 0);
          expect(total(fitted) / total(latencies)).toBeCloseTo(1, 9);
          expect(monotoneLatencyNs(fitted)).toEqual(fitted);
        },
      ),
    );
  });

  test("refuses what is not a latency or a weight", () => {
    expectError(() => monotoneLatencyNs([1, NaN]), "INVALID_ARGUMENT", "latencyNs[1]");
    expectError(() => monotoneLatencyNs([1, 2], [1]), "INVALID_ARGUMENT", "weights");
    expectError(() => monotoneLatencyNs([1], [0]), "INVALID_ARGUMENT", "weights[0]");
  });
});
