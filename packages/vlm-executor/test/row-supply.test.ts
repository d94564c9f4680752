import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { planFromMask, requestTable, simulatedDevice } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { afterAll, describe, expect, it } from "vitest";
import { CpuBackend } from "../src/backend/cpu-backend.js";
import { PlanReads } from "../src/plan-reads.js";
import { LANDING_PARTS, PlanSlicer } from "../src/plan-slices.js";
import { Prefetcher } from "../src/prefetch/prefetcher.js";
import { RowSupply } from "../src/row-supply.js";

const COLUMNS = 700;
const ROW_BYTES = 4 * COLUMNS;
const ROWS = [120, 333, 64];
const CAPACITY = 64 * 1024;
const TOKENS = 2;

/** Small whole numbers: sums of their products are exact, in whatever order. */
const small = () => Math.floor(Math.random() * 17) - 8;
const total = ROWS.reduce((sum, rows) => sum + rows, 0);
const weights = Float32Array.from({ length: total * COLUMNS }, small);
const dir = mkdtempSync(join(tmpdir(), "nchunk-supply-"));
const path = join(dir, "rows.bin");
writeFileSync(path, Buffer.from(weights.buffer));
afterAll(() => {
  rmSync(dir, { recursive: true });
});

const matrices = ROWS.map((rows, i) => {
  const firstRow = ROWS.slice(0, i).reduce((sum, before) => sum + before, 0);
  const info = {
    name: `matrix.${i}`,
    layer: 0,
    kind: `kind${i}`,
    rows,
    rowBytes: ROW_BYTES,
    offsetBytes: firstRow * ROW_BYTES,
  } as unknown as BundleInfo;
  return { info, firstRow };
});
type Matrix = (typeof matrices)[number];

const backend = new CpuBackend();
const format = { rowBytes: ROW_BYTES, columns: COLUMNS, dtype: "f32" } as const;
/** A drive on which no read is cheaper together with another: nothing is read again for want of requests. */
const SIZES = Array.from({ length: 64 }, (_, i) => 4096 * (i + 1));
const table = requestTable({
  ...simulatedDevice("nvme-gen4"),
  name: "linear",
  table: { sizesBytes: SIZES, latencyNs: SIZES.map((size) => 100 + size) },
  saturationBytes: 262144,
  tailNsPerByte: 1,
});

type Faults = Parameters<typeof FlashReader.openWithFaults>[2];

async function open(ioBackend: "io_uring" | "pool", faults?: Faults) {
  const reader = await FlashReader.openWithFaults(path, { backend: ioBackend }, faults);
  const overhead = 2 * reader.alignmentBytes;
  const maxRows = Math.max(...ROWS);
  const lane = () =>
    new PlanReads(
      reader,
      new PlanSlicer(maxRows, CAPACITY, overhead),
      reader.allocateParts(LANDING_PARTS, CAPACITY),
      backend,
    );
  const prefetcher = new Prefetcher(
    matrices.map(({ info }) => info),
    table,
    { mode: "always", overheadBytesPerChunk: overhead },
  );
  const laneBytes = (LANDING_PARTS / 2) * CAPACITY;
  const supply = new RowSupply(lane(), maxRows, { prefetcher, lanes: [lane(), lane()], laneBytes });
  return { reader, supply, prefetcher };
}

/** A random mask of runs, with one row at least. */
function randomMask(rows: number): boolean[] {
  const mask = new Array<boolean>(rows).fill(false);
  for (let row = 0; row < rows; row += 1 + Math.floor(Math.random() * 30)) {
    mask.fill(true, row, row + 1 + Math.floor(Math.random() * 30));
  }
  return mask.slice(0, rows);
}

/** The same but for one stretch of rows. */
function likeBefore(mask: readonly boolean[]): boolean[] {
  const from = Math.floor(Math.random() * mask.length);
  const next = mask.map((kept, row) => (row >= from && row < from + mask.length / 12) !== kept);
  if (!next.includes(true)) next[0] = true;
  return next;
}

function expected(values: Float32Array, { info, firstRow }: Matrix, mask: readonly boolean[]) {
  const y = new Float32Array(TOKENS * COLUMNS);
  for (let t = 0; t < TOKENS; t++) {
    mask.forEach((kept, row) => {
      if (!kept) return;
      const factor = values[t * info.rows + row];
      const at = (firstRow + row) * COLUMNS;
      for (let j = 0; j < COLUMNS; j++) y[t * COLUMNS + j] += factor * weights[at + j];
    });
  }
  return y;
}

async function multiply(supply: RowSupply, matrix: Matrix, mask: readonly boolean[]) {
  const { info } = matrix;
  const values = Float32Array.from({ length: TOKENS * info.rows }, small);
  const x = backend.createTensor(TOKENS, info.rows);
  backend.write(values, x, 0);
  const y = backend.createTensor(TOKENS, COLUMNS);
  const plan = planFromMask(Uint8Array.from(mask, Number));
  try {
    await supply.begin(info, plan, { tokens: TOKENS, phase: "decode", signal: undefined });
    const outcome = await backend.streamedMatmul(x, format, null, supply, y, false);
    await supply.end();
    expect(outcome.complete).toBe(true);
  } catch (cause) {
    await supply.abandon();
    throw cause;
  }
  const got = new Float32Array(TOKENS * COLUMNS);
  await backend.read(y, 0, got);
  expect(got).toEqual(expected(values, matrix, mask));
}

describe.each(["io_uring", "pool"] as const)("rows read ahead and on demand, %s", (ioBackend) => {
  it("make the same products as rows that are all there, and most were there before", async () => {
    const { reader, supply, prefetcher } = await open(ioBackend);
    const masks = matrices.map(({ info }) => randomMask(info.rows));
    const sums = { ahead: 0, used: 0, wanted: 0 };
    for (let pass = 0; pass < 40; pass++) {
      for (const [i, matrix] of matrices.entries()) {
        masks[i] = pass % 10 === 9 ? randomMask(matrix.info.rows) : likeBefore(masks[i]);
        await multiply(supply, matrix, masks[i]);
        const { bytesAhead, bytesAheadUsed, bytesWanted, bytesRead } = supply.totals;
        expect(bytesAheadUsed).toBeLessThanOrEqual(Math.min(bytesAhead, bytesWanted));
        expect(bytesRead + bytesAhead).toBeGreaterThanOrEqual(bytesWanted);
        sums.ahead += bytesAhead;
        sums.used += bytesAheadUsed;
        sums.wanted += bytesWanted;
      }
    }
    // A lane has room for about half of the largest matrix.
    expect(sums.used).toBeGreaterThan(0.3 * sums.wanted);
    expect(prefetcher.totals.bytesUsed).toBe(sums.used);
    await supply.abandon();
    expect(reader.stats().bytesInFlight).toBe(0);
    await reader.close();
  });

  it("are given up where another matrix comes than was expected", async () => {
    const { reader, supply } = await open(ioBackend);
    const masks = matrices.map(({ info }) => randomMask(info.rows));
    for (let step = 0; step < 60; step++) {
      const i = Math.floor(Math.random() * matrices.length);
      await multiply(supply, matrices[i], masks[i]);
    }
    await supply.abandon();
    await reader.close();
  });

  it("fail with the reader's error, whichever of the two failed, and then go on", async () => {
    const seed = (Math.random() * 2 ** 32) >>> 0;
    const where = `backend ${ioBackend}, seed ${seed}`;
    console.log(where);
    const { reader, supply } = await open(ioBackend, { seed, ioError: 2500, shortRead: 4000 });
    const masks = matrices.map(({ info }) => randomMask(info.rows));
    const ends = { whole: 0, failed: 0, ahead: 0 };
    for (let pass = 0; pass < 60; pass++) {
      for (const [i, matrix] of matrices.entries()) {
        try {
          await multiply(supply, matrix, masks[i]);
          ends.whole += 1;
          if (supply.totals.bytesAhead > 0) ends.ahead += 1;
        } catch (cause) {
          expect(cause, where).toMatchObject({ code: "IO_ERROR", path, errno: "EIO" });
          expect(reader.stats().bytesInFlight, where).toBe(0);
          ends.failed += 1;
        }
      }
    }
    for (const count of Object.values(ends)) expect(count, where).toBeGreaterThan(0);
    await supply.abandon();
    await reader.close();
  });

  it("leave nothing in flight when the reader is closed with rows on their way", async () => {
    const { reader, supply } = await open(ioBackend);
    for (let pass = 0; pass < 3; pass++) {
      for (const matrix of matrices) {
        await multiply(supply, matrix, new Array<boolean>(matrix.info.rows).fill(true));
      }
    }
    await reader.close();
    expect(reader.stats().bytesInFlight).toBe(0);
    await supply.abandon();
  });
});
