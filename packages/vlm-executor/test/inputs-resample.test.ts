import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { padPicture, resizePicture } from "../src/inputs/index.js";
import type { Picture, ResampleFilter } from "../src/inputs/index.js";

const CHANNELS = 3;
const filters: ResampleFilter[] = ["bicubic", "bilinear"];

const pictures = (most: number) =>
  fc
    .tuple(fc.integer({ min: 1, max: most }), fc.integer({ min: 1, max: most }))
    .chain(([width, height]) =>
      fc
        .uint8Array({ minLength: width * height * CHANNELS, maxLength: width * height * CHANNELS })
        .map((rgb): Picture => ({ width, height, rgb })),
    );
const side = fc.integer({ min: 1, max: 40 });

/** One axis in double precision, straight from the definition. */
function resizeAxis(
  values: number[],
  inputs: number,
  outputs: number,
  filter: ResampleFilter,
): number[] {
  const kernel = (x: number): number => {
    const d = Math.abs(x);
    if (filter === "bilinear") return Math.max(0, 1 - d);
    if (d < 1) return 1.5 * d ** 3 - 2.5 * d ** 2 + 1;
    return d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0;
  };
  const scale = inputs / outputs;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: outputs }, (_, i) => {
    const centre = scale * (i + 0.5);
    let sum = 0;
    let total = 0;
    for (let j = 0; j < inputs; j++) {
      const weight = kernel((j + 0.5 - centre) / stretch);
      sum += weight * values[j];
      total += weight;
    }
    return Math.min(255, Math.max(0, Math.round(sum / total)));
  });
}

/** Columns, then rows, rounded to 8 bits in between, as PIL and PyTorch do. */
function naive(
  { width, height, rgb }: Picture,
  newWidth: number,
  newHeight: number,
  filter: ResampleFilter,
) {
  const at = (y: number, x: number, c: number) => rgb[(y * width + x) * CHANNELS + c];
  const out = new Uint8Array(newWidth * newHeight * CHANNELS);
  for (let c = 0; c < CHANNELS; c++) {
    const rows = Array.from({ length: height }, (_, y) =>
      resizeAxis(
        Array.from({ length: width }, (_, x) => at(y, x, c)),
        width,
        newWidth,
        filter,
      ),
    );
    for (let x = 0; x < newWidth; x++) {
      const column = resizeAxis(
        rows.map((row) => row[x]),
        height,
        newHeight,
        filter,
      );
      column.forEach((value, y) => (out[(y * newWidth + x) * CHANNELS + c] = value));
    }
  }
  return out;
}

describe("resizePicture", () => {
  it.each(filters)("follows the definition of %s within fixed-point rounding", async (filter) => {
    await fc.assert(
      fc.asyncProperty(pictures(24), side, side, async (picture, width, height) => {
        const { rgb } = await resizePicture(picture, width, height, filter);
        const expected = naive(picture, width, height, filter);
        const worst = rgb.reduce(
          (most, value, i) => Math.max(most, Math.abs(value - expected[i])),
          0,
        );
        expect(worst).toBeLessThanOrEqual(2);
      }),
      { numRuns: 60 },
    );
  });

  it("keeps a flat picture flat", async () => {
    await fc.assert(
      fc.asyncProperty(side, side, side, side, fc.nat(255), async (w, h, width, height, value) => {
        const flat = { width: w, height: h, rgb: new Uint8Array(w * h * CHANNELS).fill(value) };
        const { rgb } = await resizePicture(flat, width, height);
        expect(new Set(rgb)).toEqual(new Set([value]));
      }),
    );
  });

  it("returns a picture that has the size already as it is", async () => {
    const picture = { width: 2, height: 1, rgb: Uint8Array.of(1, 2, 3, 4, 5, 6) };
    expect(await resizePicture(picture, 2, 1)).toBe(picture);
  });

  it("lets the event loop run during long work", async () => {
    const picture = { width: 2000, height: 1500, rgb: new Uint8Array(2000 * 1500 * CHANNELS) };
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await resizePicture(picture, 700, 500);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(1);
  });
});

describe("padPicture", () => {
  it("centres the picture, odd space right and below", () => {
    const dot = { width: 1, height: 1, rgb: Uint8Array.of(9, 8, 7) };
    const { rgb } = padPicture(dot, 2, 2, [1, 2, 3]);
    expect([...rgb]).toEqual([9, 8, 7, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
  });
});
