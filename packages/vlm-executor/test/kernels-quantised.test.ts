import { afterAll, describe, expect, it } from "vitest";
import { DTYPE, kernels, type RowDtypeCode } from "../src/binding";

const K = 5;
const N = 70;
const FORMATS = [
  { dtype: DTYPE.int8, groupSize: 32 },
  { dtype: DTYPE.int8, groupSize: 64 },
  { dtype: DTYPE.int4, groupSize: 32 },
  { dtype: DTYPE.int4, groupSize: 64 },
] as const;

/** Scales that binary16 holds exactly, with their bits: 2^-2, 2^-1, 1. */
const SCALES = [
  { value: 0.25, bits: 0x3400 },
  { value: 0.5, bits: 0x3800 },
  { value: 1, bits: 0x3c00 },
];

/** K rows of N small quants, and the weights they stand for `[K, N]`. */
function quantisedRows(dtype: RowDtypeCode, groupSize: number) {
  const quantBytes = dtype === DTYPE.int8 ? N : N / 2;
  const scalesAt = quantBytes + (quantBytes % 2);
  const rowBytes = scalesAt + 2 * Math.ceil(N / groupSize);
  const bytes = new Uint8Array(K * rowBytes);
  const weights = new Float64Array(K * N);
  for (let i = 0; i < K; i++) {
    const row = bytes.subarray(i * rowBytes, (i + 1) * rowBytes);
    for (let j = 0; j < N; j++) {
      const quant = ((i * 31 + j * 7) % 15) - 7;
      if (dtype === DTYPE.int8) row[j] = quant & 255;
      else row[j >> 1] |= (quant & 15) << (j % 2 === 0 ? 0 : 4);
      const scale = SCALES[(i + Math.floor(j / groupSize)) % SCALES.length];
      weights[i * N + j] = quant * scale.value;
    }
    for (let g = 0; g * groupSize < N; g++) {
      const { bits } = SCALES[(i + g) % SCALES.length];
      row[scalesAt + 2 * g] = bits & 255;
      row[scalesAt + 2 * g + 1] = bits >> 8;
    }
  }
  return { bytes, rowBytes, weights };
}

const target = kernels.features().target;
afterAll(() => {
  kernels.forceTarget(target);
});

describe.each(kernels.availableTargets())("quantised rows on %s", (name) => {
  it.each(FORMATS)("are multiplied as the weights they stand for: %o", async (format) => {
    kernels.forceTarget(name);
    const { bytes, rowBytes, weights } = quantisedRows(format.dtype, format.groupSize);
    for (const t of [1, 3, 18]) {
      const x = Float32Array.from({ length: t * K }, (_, i) => ((i * 13) % 9) - 4);
      const y = new Float32Array(t * N);
      await kernels.chunkedMatmul(
        x,
        t,
        K,
        Uint32Array.of(0, 3),
        Uint32Array.of(2, 2),
        2,
        bytes,
        Float64Array.of(0, 3 * rowBytes),
        rowBytes,
        format.dtype,
        N,
        y,
        false,
        format.groupSize,
      );
      for (let i = 0; i < y.length; i++) {
        let want = 0;
        // Whole numbers of quarters: exact in f32.
        for (const row of [0, 1, 3, 4]) {
          want += x[Math.floor(i / N) * K + row] * weights[row * N + (i % N)];
        }
        expect(y[i]).toBe(want);
      }
    }
  });
});

describe.each(kernels.availableTargets())("quantised rows, reduced, on %s", (name) => {
  it.each(FORMATS)(
    "round activations where the target says so, and no further: %o",
    async (format) => {
      kernels.forceTarget(name);
      const { bytes, rowBytes, weights } = quantisedRows(format.dtype, format.groupSize);
      const rounds = format.dtype === DTYPE.int4 && kernels.features().reduced.includes("int8-dot");
      for (const t of [1, 3]) {
        const x = Float32Array.from({ length: t * K }, (_, i) => ((i * 13) % 9) - 4.3);
        const product = async (reduced: boolean) => {
          const y = new Float32Array(t * N);
          await kernels.chunkedMatmul(
            x,
            t,
            K,
            Uint32Array.of(0),
            Uint32Array.of(4),
            1,
            bytes,
            Float64Array.of(0),
            rowBytes,
            format.dtype,
            N,
            y,
            false,
            format.groupSize,
            reduced,
          );
          return y;
        };
        const exact = await product(false);
        const reduced = await product(true);
        if (!rounds) {
          expect(reduced).toEqual(exact);
          continue;
        }
        expect(reduced).not.toEqual(exact);
        for (let i = 0; i < exact.length; i++) {
          const token = Math.floor(i / N);
          const column = i % N;
          const rows = [0, 1, 2, 3].map((row) => {
            const scale =
              SCALES[(row + Math.floor(column / format.groupSize)) % SCALES.length].value;
            return {
              scale,
              quant: Math.abs(weights[row * N + column] / scale),
              x: Math.abs(x[token * K + row]),
            };
          });
          // Half a 127th of the largest activation times scale of the four rows, for each step of a quant.
          const unit = Math.max(...rows.map((row) => row.x * row.scale)) / 127;
          const steps = rows.reduce((sum, { quant }) => sum + quant, 0);
          expect(Math.abs(reduced[i] - exact[i])).toBeLessThanOrEqual(0.501 * unit * steps + 1e-5);
        }
      }
    },
  );
});

describe("what quantised rows refuse", () => {
  const multiply = (rowBytes: number, dtype: RowDtypeCode, groupSize?: number, landing = 1000) =>
    kernels.chunkedMatmul(
      new Float32Array(K),
      1,
      K,
      Uint32Array.of(0),
      Uint32Array.of(2),
      1,
      new Uint8Array(landing),
      Float64Array.of(0),
      rowBytes,
      dtype,
      N,
      new Float32Array(N),
      false,
      groupSize,
    );
  const refused = { code: "KERNELS_INVALID_ARGUMENT" };

  it("names a group size that is neither 32 nor 64", () => {
    expect(() => multiply(200, DTYPE.int8, 48)).toThrow(/groupSize must be 32 or 64.*got 48/);
    expect(() => multiply(200, DTYPE.int4)).toThrow(expect.objectContaining(refused));
  });

  it("counts the scales as part of a row", () => {
    expect(() => multiply(73, DTYPE.int8, 64)).toThrow(/rowBytes is 73, less than the 74/);
    expect(() => multiply(74, DTYPE.int8, 64)).not.toThrow();
    expect(() => multiply(74, DTYPE.int8, 64, 147)).toThrow(expect.objectContaining(refused));
    expect(() => multiply(74, DTYPE.int8, 64, 148)).not.toThrow();
  });

  it("has no quantised plain weights", () => {
    expect(() => {
      kernels.toF32(new Uint8Array(8), DTYPE.int8 as never, 4, new Float32Array(4));
    }).toThrow(expect.objectContaining(refused));
  });
});
