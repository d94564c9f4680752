import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { planFromMask } from "@neuron-chunking/latency-model";
import { landingCapacityBytes, PlanSlicer } from "../src/plan-slices.js";

const MIB = 2 ** 20;

/** Rows of every slice, and the bytes each slice may need. */
function cut(slicer: PlanSlicer, mask: Uint8Array, rowBytes: number, overhead: number) {
  slicer.begin(planFromMask(mask), rowBytes);
  const rows: number[] = [];
  const sizes: number[] = [];
  for (let slice = slicer.next(); slice !== null; slice = slicer.next()) {
    let bytes = 0;
    for (let c = 0; c < slice.chunkCount; c++) {
      bytes += slice.lengths[c] * rowBytes + overhead;
      for (let r = 0; r < slice.lengths[c]; r++) rows.push(slice.starts[c] + r);
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

  it("stay valid until the second next call", () => {
    const slicer = new PlanSlicer(64, 4 * MIB, 0);
    slicer.begin(planFromMask(new Uint8Array(64).fill(1)), MIB);
    const first = slicer.next()!;
    const rows = first.lengths[0];
    slicer.next();
    expect([first.starts[0], first.lengths[0]]).toEqual([0, rows]);
  });

  it("are several where there is enough to overlap, and one where there is not", () => {
    const slicer = new PlanSlicer(1024, 32 * MIB, 0);
    const all = new Uint8Array(1024).fill(1);
    expect(cut(slicer, all, 8192, 0).sizes).toHaveLength(4);
    expect(cut(slicer, all, 512, 0).sizes).toHaveLength(1);
    expect(cut(slicer, new Uint8Array(1024), 512, 0).sizes).toHaveLength(0);
  });
});

describe("a landing buffer", () => {
  it("is no larger than asked for, but always holds a row", () => {
    expect(landingCapacityBytes([{ rows: 18944, rowBytes: 7168 }], 8 * MIB, 8192)).toBe(8 * MIB);
    expect(landingCapacityBytes([{ rows: 10, rowBytes: 5000 }], 1, 100)).toBe(5100);
    expect(landingCapacityBytes([{ rows: 10, rowBytes: 500 }], 8 * MIB, 0)).toBe(5000);
  });
});
