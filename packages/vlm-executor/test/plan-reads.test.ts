import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { planFromMask } from "@neuron-chunking/latency-model";
import { afterAll, describe, expect, it } from "vitest";
import { CpuBackend } from "../src/backend/cpu-backend.js";
import type { Tensor } from "../src/backend/compute-backend.js";
import { PlanReads } from "../src/plan-reads.js";
import { LANDING_PARTS, landingCapacityBytes, PlanSlicer } from "../src/plan-slices.js";

const BASE = 4096;
const ROWS = 300;
const COLUMNS = 1750;
const ROW_BYTES = 4 * COLUMNS;
/** Far less than the rows take, so that landings are used again and again. */
const LIMIT_BYTES = 400_000;

/** Small whole numbers: sums of their products are exact, in whatever order. */
const small = () => Math.floor(Math.random() * 17) - 8;
const weights = Float32Array.from({ length: ROWS * COLUMNS }, small);
const dir = mkdtempSync(join(tmpdir(), "nchunk-reads-"));
const path = join(dir, "rows.bin");
writeFileSync(path, Buffer.concat([Buffer.alloc(BASE, 255), Buffer.from(weights.buffer)]));
afterAll(() => {
  rmSync(dir, { recursive: true });
});

type Faults = Parameters<typeof FlashReader.openWithFaults>[2];
const compute = new CpuBackend();
const layout = { baseOffsetBytes: BASE, rowBytes: ROW_BYTES };
const format = { rowBytes: ROW_BYTES, columns: COLUMNS, dtype: "f32" } as const;
const planOf = (mask: readonly boolean[]) => planFromMask(Uint8Array.from(mask, Number));
const allRows = new Array<boolean>(ROWS).fill(true);

async function open(backend: "io_uring" | "pool", faults?: Faults) {
  const reader = await FlashReader.openWithFaults(path, { backend }, faults);
  const overhead = 2 * reader.alignmentBytes;
  const capacity = landingCapacityBytes([format].map(matrix), LIMIT_BYTES, overhead);
  const slicer = new PlanSlicer(ROWS, capacity, overhead);
  const landings = reader.allocateParts(LANDING_PARTS, capacity);
  return { reader, landings, reads: new PlanReads(reader, slicer, landings, compute) };
}
const matrix = ({ rowBytes }: { rowBytes: number }) => ({ rows: ROWS, rowBytes });

function inputs(tokens: number): { x: Tensor; values: Float32Array } {
  const values = Float32Array.from({ length: tokens * ROWS }, small);
  const x = compute.createTensor(tokens, ROWS);
  compute.write(values, x, 0);
  return { x, values };
}

function product(values: Float32Array, tokens: number, mask: readonly boolean[]): Float32Array {
  const y = new Float32Array(tokens * COLUMNS);
  for (let t = 0; t < tokens; t++) {
    for (let row = 0; row < ROWS; row++) {
      const factor = values[t * ROWS + row];
      if (mask[row] !== true || factor === 0) continue;
      for (let j = 0; j < COLUMNS; j++) y[t * COLUMNS + j] += factor * weights[row * COLUMNS + j];
    }
  }
  return y;
}

/** It may throw, reject or do neither. */
async function ended(reads: PlanReads): Promise<void> {
  await reads.end();
}

/** `x W` of the rows of `mask` by way of `reads`. */
async function multiply(reads: PlanReads, x: Tensor, mask: readonly boolean[]) {
  const y = compute.createTensor(x.rows, COLUMNS);
  reads.begin(planOf(mask), layout, { tokens: x.rows });
  try {
    const outcome = await compute.streamedMatmul(x, format, null, reads, y, false);
    const values = new Float32Array(x.rows * COLUMNS);
    await compute.read(y, 0, values);
    return { complete: outcome.complete, values };
  } finally {
    await reads.end();
  }
}

describe.each(["io_uring", "pool"] as const)("reads of a plan, %s", (backend) => {
  it("bring a product every row, whatever is read", async () => {
    const { reader, reads } = await open(backend);
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.array(fc.boolean(), { minLength: 1, maxLength: ROWS }).filter((m) => m.includes(true)),
          fc.constant(allRows),
        ),
        fc.constantFrom(1, 3, 64),
        async (mask, tokens) => {
          const { x, values } = inputs(tokens);
          const got = await multiply(reads, x, mask);
          expect(got.complete).toBe(true);
          expect(got.values).toEqual(product(values, tokens, mask));
          const rows = mask.filter(Boolean).length;
          expect(reads.totals.bytesRead).toBeGreaterThanOrEqual(rows * ROW_BYTES);
          expect(reads.totals.readNs).toBeGreaterThan(0);
        },
      ),
      { numRuns: 40 },
    );
    await reader.close();
  });

  it("end in the reader's error or in right rows, and can begin again", async () => {
    const seed = (Math.random() * 2 ** 32) >>> 0;
    const where = `backend ${backend}, seed ${seed}`;
    console.log(where);
    const { reader, reads, landings } = await open(backend, {
      seed,
      ioError: 400,
      shortRead: 4000,
    });
    const { x, values } = inputs(2);
    const expected = product(values, 2, allRows);
    const ends = { whole: 0, failed: 0 };
    for (let round = 0; round < 60; round++) {
      try {
        const got = await multiply(reads, x, allRows);
        expect(got.values, where).toEqual(expected);
        ends.whole += 1;
      } catch (cause) {
        expect(cause, where).toMatchObject({ code: "IO_ERROR", path, errno: "EIO" });
        ends.failed += 1;
      }
      expect(
        landings.some(({ busy }) => busy),
        where,
      ).toBe(false);
      expect(reader.stats().bytesInFlight, where).toBe(0);
    }
    expect(ends.failed, where).toBeGreaterThan(0);
    expect(ends.whole, where).toBeGreaterThan(0);
    await reader.close();
  });

  it("stop when aborted, and tell the product so", async () => {
    const { reader, reads, landings } = await open(backend);
    const { x } = inputs(2);
    const y = compute.createTensor(2, COLUMNS);
    for (let round = 0; round < 10; round++) {
      const controller = new AbortController();
      reads.begin(planOf(allRows), layout, { signal: controller.signal });
      if (round % 2 === 0) controller.abort(new Error("enough"));
      const outcome = compute.streamedMatmul(x, format, null, reads, y, false);
      controller.abort(new Error("enough"));
      const { complete } = await outcome;
      if (complete) await ended(reads).catch(() => undefined);
      else await expect(ended(reads)).rejects.toThrow("enough");
      expect(landings.some(({ busy }) => busy)).toBe(false);
      expect(reader.stats().bytesInFlight).toBe(0);
    }
    await reader.close();
  });

  it("stop when they end before the product begins: nothing is read that nobody wants", async () => {
    const { reader, reads, landings } = await open(backend);
    reads.begin(planOf(allRows), layout);
    await ended(reads).catch(() => undefined);
    expect(landings.some(({ busy }) => busy)).toBe(false);
    const { x, values } = inputs(1);
    expect((await multiply(reads, x, allRows)).values).toEqual(product(values, 1, allRows));
    await reader.close();
  });

  it("leave little for the collector to do and keep nothing", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const { reader, reads } = await open(backend);
    const { x } = inputs(1);
    const y = compute.createTensor(1, COLUMNS);
    const plan = planOf(allRows);
    /** Bytes of the heap that each of `count` takes until they are collected. */
    const taken = async (count: number): Promise<number> => {
      collect();
      const before = process.memoryUsage().heapUsed;
      for (let i = 0; i < count; i++) {
        reads.begin(plan, layout, { tokens: 1 });
        const { complete } = await compute.streamedMatmul(x, format, null, reads, y, false);
        if (!complete) throw new Error("incomplete");
        await reads.end();
      }
      return (process.memoryUsage().heapUsed - before) / count;
    };
    await taken(100);
    collect();
    const before = process.memoryUsage().heapUsed;
    const bursts: number[] = [];
    for (let burst = 0; burst < 20; burst++) bursts.push(await taken(20));
    collect();
    const kept = (process.memoryUsage().heapUsed - before) / (20 * 20);
    // The runner allocates beside it now and then, and a collection in a burst makes it negative.
    const least = Math.min(...bursts.filter((bytes) => bytes > 0));
    // Promises, calls of native code and, before it is compiled, numbers; nothing of the size of a plan.
    expect(least).toBeLessThan(8192);
    expect(kept).toBeLessThan(256);
    await reader.close();
  });

  it("of a closed reader fail and do not leave the product waiting", async () => {
    const { reader, reads } = await open(backend);
    await reader.close();
    await expect(multiply(reads, inputs(1).x, allRows)).rejects.toMatchObject({ code: "CLOSED" });
  });
});
