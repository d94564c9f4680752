import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { planFromMask } from "@neuron-chunking/latency-model";
import { LANDING_PARTS, landingCapacityBytes, PlanSlicer } from "../src/plan-slices.js";

const MIB = 2 ** 20;

/** Rows of all slices, and the bytes each slice may need. */
function cut(slicer: PlanSlicer, mask: Uint8Array, rowBytes: number, overhead: number) {
  slicer.cut(planFromMask(mask), rowBytes);
  const { starts, lengths, slices, ends, count, pieceCount } = slicer;
  expect(pieceCount).toBe(count === 0 ? 0 : ends[count - 1]);
  const rows: number[] = [];
  const sizes: number[] = [];
  let piece = 0;
  for (const [slice, end] of ends.subarray(0, count).entries()) {
    let bytes = 0;
    for (; piece < end; piece++) {
      expect(slices[piece]).toBe(slice);
      bytes += lengths[piece] * rowBytes + overhead;
      for (let r = 0; r < lengths[piece]; r++) rows.push(starts[piece] + r);
    }
    sizes.push(bytes);
  }
  return { rows, sizes };
}

describe("slices of a plan", () => {
  it("hold every row once, in order, each within its landing buffer", () => {
    fc.assert(
      fc.property(
        fc.array(fc.boolean(), { maxLength: 200 }),
        fc.integer({ min: 1, max: 60_000 }),
        fc.integer({ min: 0, max: 8192 }),
        fc.integer({ min: 1, max: 4 * MIB }),
        (selected, rowBytes, overhead, limitBytes) => {
          const mask = Uint8Array.from(selected, Number);
          const rows = mask.length;
          const capacity = landingCapacityBytes([{ rows, rowBytes }], limitBytes, overhead);
          const slicer = new PlanSlicer(rows, capacity, overhead);
          const got = cut(slicer, mask, rowBytes, overhead);
          expect(got.rows).toEqual([...mask.keys()].filter((row) => mask[row] === 1));
          for (const bytes of got.sizes) expect(bytes).toBeLessThanOrEqual(capacity);
        },
      ),
    );
  });

  it("cut long chunks where a row starts at a page, if it does within 16 rows", () => {
    const slicer = new PlanSlicer(1024, 4 * MIB, 8192);
    const mask = new Uint8Array(1024).fill(1, 5);
    for (const [rowBytes, rows] of [
      [19_456, 4],
      [1792 * 7, 16],
      [4096, 1],
    ]) {
      cut(slicer, mask, rowBytes, 8192);
      const pieces = slicer.ends[slicer.count - 1];
      expect(pieces).toBeGreaterThan(1);
      for (let piece = 1; piece < pieces; piece++) expect(slicer.starts[piece] % rows).toBe(0);
    }
  });

  it("are several where there is enough to overlap, and one where there is not", () => {
    const slicer = new PlanSlicer(1024, 32 * MIB, 0);
    const all = new Uint8Array(1024).fill(1);
    // No more than there are landing buffers: all of them can be read at once.
    expect(cut(slicer, all, 16 * 1024, 0).sizes.length).toBeLessThanOrEqual(LANDING_PARTS);
    expect(cut(slicer, all, 16 * 1024, 0).sizes.length).toBeGreaterThan(LANDING_PARTS / 2);
    expect(cut(slicer, all, 200, 0).sizes).toHaveLength(1);
    expect(cut(slicer, new Uint8Array(1024), 512, 0).sizes).toHaveLength(0);
  });
});

describe("landing buffers", () => {
  it("are together no larger than asked for, but each holds a row", () => {
    const matrix = { rows: 18944, rowBytes: 7168 };
    expect(landingCapacityBytes([matrix], 8 * MIB, 8192)).toBe((8 * MIB) / LANDING_PARTS);
    expect(landingCapacityBytes([{ rows: 10, rowBytes: 5000 }], 1, 100)).toBe(5100);
    expect(landingCapacityBytes([{ rows: 10, rowBytes: 500 }], 8 * MIB, 0)).toBe(5000);
  });
});
