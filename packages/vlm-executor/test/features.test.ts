import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packSingleTile, packTiles, poolFrame, resizeBilinear } from "../src/vision/features.js";

const grid = (height: number, width: number, value: (y: number, x: number) => number) => ({
  height,
  width,
  values: Float32Array.from({ length: height * width }, (_, i) =>
    value(Math.floor(i / width), i % width),
  ),
});

describe("bilinear resizing", () => {
  it("averages pairs when halving, and weighs by distance otherwise", () => {
    const halved = resizeBilinear(
      grid(2, 4, (_, x) => x),
      1,
      2,
      1,
    );
    expect([...halved.values]).toEqual([0.5, 2.5]);
    const row = resizeBilinear(
      grid(1, 2, (_, x) => x),
      1,
      4,
      1,
    );
    expect([...row.values]).toEqual([0, 0.25, 0.75, 1]);
  });

  it("keeps planes planes inside, constants constant, and values within their range", () => {
    const side = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(side, side, side, side, fc.integer({ min: -9, max: 9 }), (h, w, H, W, c) => {
        const constant = resizeBilinear(
          grid(h, w, () => c),
          H,
          W,
          1,
        );
        for (const value of constant.values) expect(value).toBeCloseTo(c, 5);
        const slope = resizeBilinear(
          grid(h, w, (y, x) => y + x),
          H,
          W,
          1,
        ).values;
        for (const value of slope) {
          expect(value).toBeGreaterThanOrEqual(0);
          expect(value).toBeLessThanOrEqual(h + w - 2 + 1e-5);
        }
      }),
    );
  });
});

describe("packing", () => {
  // One channel; every patch numbered: tile * 100 + its place in the tile.
  const tiles = (count: number, side: number) =>
    Float32Array.from(
      { length: count * side * side },
      (_, i) => Math.floor(i / side ** 2) * 100 + (i % side ** 2),
    );
  const newline = Float32Array.of(-1);

  it("puts tiles side by side, row by row, each row ended by a newline", () => {
    const layout = { tileRows: 1, tileColumns: 2, padTop: 0, padLeft: 0, height: 2, width: 4 };
    expect([...packTiles(tiles(3, 2), 2, 1, layout, newline)]).toEqual([
      ...[0, 1, 2, 3],
      ...[100, 101, 200, 201, -1],
      ...[102, 103, 202, 203, -1],
    ]);
  });

  it("leaves out the padding", () => {
    const layout = { tileRows: 2, tileColumns: 1, padTop: 1, padLeft: 0, height: 2, width: 2 };
    expect([...packTiles(tiles(3, 2), 2, 1, layout, newline)]).toEqual([
      ...[0, 1, 2, 3],
      ...[102, 103, -1],
      ...[200, 201, -1],
    ]);
  });

  it("ends a single tile with a newline", () => {
    expect([...packSingleTile(Float32Array.of(1, 2), newline)]).toEqual([1, 2, -1]);
  });

  it("pools frames to half the side, odd sides rounded up", () => {
    expect(poolFrame(tiles(1, 4), 4, 1)).toHaveLength(4);
    expect([...poolFrame(tiles(1, 2), 2, 1)]).toEqual([1.5]);
    expect(poolFrame(tiles(1, 5), 5, 1)).toHaveLength(9);
  });
});
