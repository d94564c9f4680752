import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { planFromMask } from "@neuron-chunking/latency-model";
import { afterAll, describe, expect, it } from "vitest";
import { PlanReads } from "../src/plan-reads.js";
import type { LandedRows } from "../src/plan-reads.js";
import { LANDING_PARTS, landingCapacityBytes, PlanSlicer } from "../src/plan-slices.js";

const BASE = 4096;
const ROWS = 300;
const ROW_BYTES = 7000;
const TOKENS = 16;
const LIMIT_BYTES = 400_000;

const dir = mkdtempSync(join(tmpdir(), "nchunk-reads-"));
const path = join(dir, "rows.bin");
const file = randomBytes(BASE + ROWS * ROW_BYTES);
writeFileSync(path, file);
afterAll(() => {
  rmSync(dir, { recursive: true });
});

type Faults = Parameters<typeof FlashReader.openWithFaults>[2];

async function open(backend: "io_uring" | "pool", faults?: Faults) {
  const reader = await FlashReader.openWithFaults(path, { backend }, faults);
  const overhead = 2 * reader.alignmentBytes;
  const capacity = landingCapacityBytes(
    [{ rows: ROWS, rowBytes: ROW_BYTES }],
    LIMIT_BYTES,
    overhead,
  );
  const slicer = new PlanSlicer(ROWS, capacity, overhead);
  const landings = reader.allocateParts(LANDING_PARTS, capacity);
  return { reader, landings, reads: new PlanReads(reader, slicer, landings) };
}

const layout = { baseOffsetBytes: BASE, rowBytes: ROW_BYTES };

/** Rows of `landed`; throws where one has the wrong bytes. */
function check({ starts, lengths, chunkCount, bytes, offsetsBytes }: LandedRows): number[] {
  const rows: number[] = [];
  for (let c = 0; c < chunkCount; c++) {
    const from = BASE + starts[c] * ROW_BYTES;
    const length = lengths[c] * ROW_BYTES;
    const got = bytes.subarray(offsetsBytes[c], offsetsBytes[c] + length);
    if (Buffer.compare(got, file.subarray(from, from + length)) !== 0) {
      throw new Error(`wrong bytes in rows from ${starts[c]}`);
    }
    for (let r = 0; r < lengths[c]; r++) rows.push(starts[c] + r);
  }
  return rows;
}

const masks = fc.oneof(
  fc.array(fc.boolean(), { maxLength: ROWS }),
  fc.constant(new Array<boolean>(ROWS).fill(true)),
);
/** How long each product takes, ms. */
const pauses = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 8 });
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const rowsOf = (mask: readonly boolean[]) => [...mask.keys()].filter((row) => mask[row]);
const planOf = (mask: readonly boolean[]) => planFromMask(Uint8Array.from(mask, Number));

describe.each(["io_uring", "pool"] as const)("reads of a plan, %s", (backend) => {
  it("bring every row once, in order, whatever is slower", async () => {
    const { reader, reads } = await open(backend);
    await fc.assert(
      fc.asyncProperty(
        masks,
        pauses,
        fc.integer({ min: 1, max: 200 }),
        async (mask, ms, tokens) => {
          reads.begin(planOf(mask), layout, tokens, undefined);
          const rows: number[] = [];
          for (let i = 0; ; i++) {
            const landed = await reads.next();
            if (landed === null) break;
            await pause(ms[i % ms.length]);
            // After the pause: nothing may have been read over it meanwhile.
            rows.push(...check(landed));
            reads.release();
          }
          await reads.drain();
          expect(rows).toEqual(rowsOf(mask));
          expect(reads.totals.bytesWanted).toBe(rows.length * ROW_BYTES);
          expect(reads.totals.bytesRead).toBeGreaterThanOrEqual(reads.totals.bytesWanted);
        },
      ),
      { numRuns: 40 },
    );
    await reader.close();
  });

  it("fill the landings ahead, and keep half of them filling", async () => {
    const { reader, reads, landings } = await open(backend);
    reads.begin(planOf(new Array<boolean>(ROWS).fill(true)), layout, 1, undefined);
    expect(landings.every(({ busy }) => busy)).toBe(true);
    while (landings.some(({ busy }) => busy)) await pause(1);
    await reads.next();
    reads.release();
    expect(landings.filter(({ busy }) => busy)).toHaveLength(LANDING_PARTS / 2);
    await reads.drain();
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
    const mask = new Array<boolean>(ROWS).fill(true);
    const ends = { whole: 0, failed: 0 };
    for (let round = 0; round < 60; round++) {
      reads.begin(planOf(mask), layout, TOKENS, undefined);
      const rows: number[] = [];
      try {
        for (let landed = await reads.next(); landed !== null; landed = await reads.next()) {
          rows.push(...check(landed));
          reads.release();
        }
        expect(rows, where).toEqual(rowsOf(mask));
        ends.whole += 1;
      } catch (cause) {
        expect(cause, where).toMatchObject({ code: "IO_ERROR", path, errno: "EIO" });
        ends.failed += 1;
      }
      await reads.drain();
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

  it("stop when aborted, with nothing in flight after the drain", async () => {
    const { reader, reads, landings } = await open(backend);
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on("warning", onWarning);
    for (let taken = 0; taken < 4; taken++) {
      const controller = new AbortController();
      reads.begin(planOf(new Array<boolean>(ROWS).fill(true)), layout, TOKENS, controller.signal);
      for (let i = 0; i < taken; i++) {
        check((await reads.next())!);
        reads.release();
      }
      controller.abort(new Error("enough"));
      const rest = async () => {
        while ((await reads.next()) !== null) reads.release();
      };
      await expect(rest()).rejects.toThrow("enough");
      await reads.drain();
      expect(landings.some(({ busy }) => busy)).toBe(false);
      expect(reader.stats().bytesInFlight).toBe(0);
    }
    await pause(0);
    process.off("warning", onWarning);
    expect(warnings).toEqual([]);
    await reader.close();
  });
});
