import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { planFromMask } from "@neuron-chunking/latency-model";
import {
  LANDING_PARTS,
  landingCapacityBytes,
  PlanSlicer,
  slicesTogether,
} from "../src/plan-slices.js";

const MIB = 2 ** 20;

/** Rows of all slices, and the bytes each slice may need. */
function cut(slicer: PlanSlicer, mask: Uint8Array, rowBytes: number, overhead: number) {
  slicer.cut(planFromMask(mask), rowBytes);
  const { starts, lengths, ends, count } = slicer;
  const rows: number[] = [];
  const sizes: number[] = [];
  let piece = 0;
  for (const end of ends.subarray(0, count)) {
    let bytes = 0;
    for (; piece < end; piece++) {
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

  it("cut long chunks at multiples of 16 rows where they have room", () => {
    const slicer = new PlanSlicer(1024, 4 * MIB, 8192);
    const mask = new Uint8Array(1024).fill(1, 5);
    cut(slicer, mask, 19_456, 8192);
    const pieces = slicer.ends[slicer.count - 1];
    expect(pieces).toBeGreaterThan(1);
    for (let piece = 1; piece < pieces; piece++) expect(slicer.starts[piece] % 16).toBe(0);
  });

  it("are several where there is enough to overlap, and one where there is not", () => {
    const slicer = new PlanSlicer(1024, 32 * MIB, 0);
    const all = new Uint8Array(1024).fill(1);
    expect(cut(slicer, all, 16 * 1024, 0).sizes).toHaveLength(16);
    expect(cut(slicer, all, 512, 0).sizes).toHaveLength(1);
    expect(cut(slicer, new Uint8Array(1024), 512, 0).sizes).toHaveLength(0);
  });
});

describe("slices multiplied together", () => {
  const sizesOf = (count: number, tokens: number) => {
    const sizes: number[] = [];
    for (let done = 0; done < count; done += sizes.at(-1)!) {
      sizes.push(slicesTogether(sizes.length, done, count, tokens));
      if (!(sizes.at(-1)! > 0)) throw new Error(`stuck after ${sizes.join(", ")}`);
    }
    return sizes;
  };

  it.each([1, 4, 5, 16, 196])("are all of them in few products, for %i tokens", (tokens) => {
    for (let count = 1; count <= 200; count++) {
      const sizes = sizesOf(count, tokens);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(count);
      expect(Math.max(...sizes)).toBeLessThanOrEqual(LANDING_PARTS / 2);
      expect(sizes.length).toBeLessThanOrEqual(5 + count / (LANDING_PARTS / 2));
      if (count > 1) expect(sizes.length).toBeGreaterThan(1);
    }
  });

  it("end small, and for many tokens begin with a quarter of the landings at most", () => {
    expect(sizesOf(16, 196)).toEqual([4, 8, 4]);
    expect(sizesOf(16, 1)).toEqual([8, 4, 2, 1, 1]);
    for (const count of [16, 17, 23, 64, 68]) {
      expect(sizesOf(count, 196)[0]).toBe(4);
      expect(sizesOf(count, 196).at(-1)).toBeLessThanOrEqual(6);
      expect(sizesOf(count, 1).at(-1)).toBe(1);
    }
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
