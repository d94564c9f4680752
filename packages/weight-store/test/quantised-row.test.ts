import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { binary16Bits, binary16Value, roundHalfEven } from "../src/binary16.js";
import { quantisedRowLayout, RowQuantiser, type QuantisedFormat } from "../src/quantised-row.js";
import {
  BINARY16,
  most,
  naiveError,
  naiveRead,
  naiveRow,
  nearestBinary16,
  sizes,
} from "./helpers/naive-quantiser.js";

const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
console.info(`quantised rows: FUZZ_SEED=${seed}`);

const FORMATS = (["int8", "int4"] as const).flatMap((dtype) =>
  ([32, 64] as const).map((groupSize) => ({ dtype, groupSize })),
);

function quantise(weights: readonly number[], format: QuantisedFormat) {
  const quantiser = new RowQuantiser(format, weights.length);
  // Whatever was in the row before must not shine through.
  const row = Buffer.alloc(quantiser.layout.rowBytes, 0xa5);
  const error = quantiser.quantise(Float32Array.from(weights), row, (column) => {
    throw new RangeError(`column ${column}`);
  });
  return { row, error };
}

describe("binary16", () => {
  it("of every pattern has the value of the table, and gives the pattern back", () => {
    for (const [bits, value] of BINARY16.entries()) {
      if (binary16Value(bits) !== value || binary16Bits(value) !== bits) {
        throw new Error(`${bits}: ${binary16Value(bits)}, ${binary16Bits(value)}`);
      }
      if (binary16Value(bits | 0x8000) !== -value) throw new Error(`-${bits}`);
    }
    expect(binary16Value(0x7c00)).toBe(Infinity);
    expect(binary16Value(0xfc00)).toBe(-Infinity);
    expect(binary16Value(0x7c01)).toBeNaN();
  });

  it("of the numbers between two patterns is the nearer one, ties to even", () => {
    for (let bits = 0; bits + 1 < BINARY16.length; bits++) {
      const [low, high] = [BINARY16[bits], BINARY16[bits + 1]];
      const tie = (low + high) / 2;
      const nudge = (high - low) * 2 ** -30;
      const got = [tie - nudge, tie, tie + nudge].map(binary16Bits);
      const expected = [bits, bits + (bits & 1), bits + 1];
      if (got.join() !== expected.join())
        throw new Error(`between ${low} and ${high}: ${got.join()}`);
    }
    expect(binary16Bits(65_519.99)).toBe(0x7bff);
  });

  // Float16Array (Node.js 24) is an implementation nobody here wrote.
  const Float16 = (globalThis as { Float16Array?: new (values: number[]) => ArrayLike<number> })
    .Float16Array;
  it.skipIf(Float16 === undefined)("is what the engine says (needs Float16Array)", () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 65_519, noNaN: true }), (value) => {
        expect(binary16Value(binary16Bits(value))).toBe(new Float16!([value])[0]);
        expect(BINARY16[nearestBinary16(value)]).toBe(new Float16!([value])[0]);
      }),
      { numRuns: 2000, seed },
    );
  });

  it("rounding takes ties to even", () => {
    const values = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 126.5, 127.49999999999999, -7.5];
    expect(values.map((value) => roundHalfEven(value) + 0)).toEqual([
      -2, -2, 0, 0, 2, 2, 126, 127, -8,
    ]);
  });
});

describe("the layout", () => {
  it.each([
    ["int8", 32, 1, 2, 1, 4],
    ["int8", 32, 32, 32, 1, 34],
    ["int8", 64, 65, 66, 2, 70],
    ["int4", 32, 1, 2, 1, 4],
    ["int4", 32, 5, 4, 1, 6],
    ["int4", 32, 65, 34, 3, 40],
    ["int4", 64, 37_888, 18_944, 592, 20_128],
  ] as const)("of %s in groups of %i, %i columns", (dtype, groupSize, columns, ...expected) => {
    const { scalesOffsetBytes, groups, rowBytes } = quantisedRowLayout(
      { dtype, groupSize },
      columns,
    );
    expect([scalesOffsetBytes, groups, rowBytes]).toEqual(expected);
    expect(sizes({ dtype, groupSize }, columns)).toEqual({ scalesAt: expected[0], rowBytes });
  });

  it("of a row is written out by hand here", () => {
    // Largest 7: scale 1, and ties go to even. An odd column leaves its upper nibble empty.
    const int4 = quantise([7, -7, 0.5, 1.5, -2.5], { dtype: "int4", groupSize: 32 }).row;
    expect([...int4]).toEqual([0x97, 0x20, 0x0e, 0x00, 0x00, 0x3c]);
    const int8 = quantise([-127, 63.5, 1], { dtype: "int8", groupSize: 32 }).row;
    expect([...int8]).toEqual([0x81, 64, 1, 0, 0x00, 0x3c]);
  });
});

/** Weights as they come, and as they should not: zeros, subnormals, huge ones, ties on the grid of the scale. */
const weight = (limit: number) =>
  fc.oneof(
    { weight: 6, arbitrary: fc.float({ min: -4, max: 4, noNaN: true }) },
    { weight: 2, arbitrary: fc.constantFrom(0, -0) },
    { weight: 2, arbitrary: fc.integer({ min: -15, max: 15 }).map((half) => half / 2) },
    { weight: 1, arbitrary: fc.constantFrom(2 ** -149, -(2 ** -149), 2 ** -126, 1e-40) },
    { weight: 1, arbitrary: fc.float({ min: -1, max: 1, noNaN: true }).map((w) => w * 2 ** -18) },
    {
      weight: 1,
      arbitrary: fc
        .float({ min: -1, max: 1, noNaN: true })
        .map((w) => Math.fround(w * 65_500 * limit)),
    },
  );

const group = (limit: number) =>
  fc.oneof(
    fc.array(weight(limit), { minLength: 1, maxLength: 64 }),
    fc.integer({ min: 1, max: 64 }).map((length) => new Array<number>(length).fill(0)),
    // A group whose scale is among binary16's subnormals.
    fc
      .array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 64 })
      .map((all) => all.map((w) => Math.fround(w * limit * 2 ** -23))),
  );

describe.each(FORMATS)("$dtype in groups of $groupSize", (format) => {
  const row = fc.array(group(most(format)), { minLength: 1, maxLength: 4 }).map((g) => g.flat());

  it("gives the bytes and the error of the naive quantiser", () => {
    fc.assert(
      fc.property(row, (values) => {
        const weights = values.map(Math.fround);
        const { row: bytes, error } = quantise(weights, format);
        expect(bytes.toString("hex")).toBe(naiveRow(weights, format).toString("hex"));
        const naive = naiveError(weights, format);
        expect(Math.abs(error - naive)).toBeLessThanOrEqual(1e-12 + 1e-9 * naive);
      }),
      { numRuns: 400, seed },
    );
  });

  it("keeps every weight within half a step, every quant in range, every zero zero", () => {
    fc.assert(
      fc.property(row, (values) => {
        const weights = values.map(Math.fround);
        const read = naiveRead(quantise(weights, format).row, weights.length, format);
        for (const [column, { quant, scale }] of read.entries()) {
          expect(Math.abs(quant)).toBeLessThanOrEqual(most(format));
          // The last quant may stand half a step of the scale's own rounding away from the largest weight.
          const slack = (scale / 2) * (1 + 2 ** -10);
          expect(Math.abs(weights[column] - quant * scale)).toBeLessThanOrEqual(slack);
          if (weights[column] === 0) expect(quant + 0).toBe(0);
        }
      }),
      { numRuns: 300, seed },
    );
  });

  it("keeps quants in range for every scale between two of binary16's subnormals", () => {
    for (let step = 1; step <= 600; step++) {
      const largest = Math.fround((step / 16) * most(format) * 2 ** -24);
      const weights = [largest, -largest, largest / 3];
      const read = naiveRead(quantise(weights, format).row, 3, format);
      expect(Math.max(...read.map(({ quant }) => Math.abs(quant)))).toBeLessThanOrEqual(
        most(format),
      );
      expect(read[0].scale).toBeGreaterThan(0);
      expect(quantise(weights, format).row).toEqual(naiveRow(weights, format));
    }
  });

  it("refuses what has no quant, by its column", () => {
    const tooLarge = Math.fround(65_520 * most(format));
    const largest = Math.fround(tooLarge * (1 - 2 ** -24));
    expect(largest).toBeLessThan(tooLarge);
    for (const bad of [NaN, Infinity, -Infinity, tooLarge, -tooLarge, 3e38]) {
      const weights = [...new Array<number>(70).fill(1), bad, 2];
      expect(() => quantise(weights, format)).toThrow("column 70");
    }
    const [{ quant, scale }] = naiveRead(quantise([largest], format).row, 1, format);
    expect([quant, scale]).toEqual([most(format), 65_504]);
  });
});
