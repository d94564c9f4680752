import { randomFillSync } from "node:crypto";
import { open, rename, rm, stat, statfs } from "node:fs/promises";
import path from "node:path";
import { createSelector, importanceKept } from "@neuron-chunking/chunk-selector";
import { FlashReader } from "@neuron-chunking/flash-reader";
import {
  LatencyTable,
  selectedRows,
  type ChunkPlan,
  type DeviceProfile,
} from "@neuron-chunking/latency-model";
import { NchunkError } from "../errors";
import type { ReportProgress } from "../terminal/progress";
import { lognormalImportance } from "./importance";

/** The down projection of a 7B model (18944 inputs, 3584 bf16 outputs): PAPER's largest row count. */
const ROWS = 18944;
const ROW_BYTES = 7168;
const KEPT = 0.5;
/** The paper reports a coefficient of variation of 1.07 to 1.44 before most down projections (App. B.2). */
const IMPORTANCE_VARIATION = 1.3;
const IMPORTANCE_SEED = 2025;
const ROUNDS = 7;
const WRITE_SLICE_BYTES = 8 * 2 ** 20;

export type ScalePolicy = "dense" | "topk" | "chunk";

export interface ScaleMeasurement {
  /** Median time of reading the plan, the selection not included. */
  ns: number;
  selectNs: number;
  bytesRead: number;
  rowsRead: number;
  chunks: number;
  /** Share of the total importance that the rows read carry. */
  importance: number;
}

export interface ScaleReport {
  rows: number;
  rowBytes: number;
  directIo: boolean;
  rounds: number;
  policies: Record<ScalePolicy, ScaleMeasurement>;
}

interface PricedPlan {
  plan: ChunkPlan;
  selectNs: number;
}

/** Writes the layer's worth of random bytes once; a killed run leaves no half-written file behind the name. */
async function ensureScaleFile(folder: string, report: ReportProgress): Promise<string> {
  const sizeBytes = ROWS * ROW_BYTES;
  const file = path.join(folder, `rows-${ROWS}x${ROW_BYTES}.bin`);
  const existing = await stat(file).catch(() => undefined);
  if (existing?.size === sizeBytes) return file;
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < 2 * sizeBytes) {
    throw new NchunkError(
      "DISK_FULL",
      `${folder} has ${bavail * bsize} bytes free; the measurement at real size needs ${2 * sizeBytes}. ` +
        "Free some, or set NCHUNK_CACHE_DIR to another disk.",
    );
  }
  const temporary = `${file}.${process.pid}.tmp`;
  const handle = await open(temporary, "w");
  try {
    const slice = Buffer.alloc(WRITE_SLICE_BYTES);
    for (let written = 0; written < sizeBytes; written += WRITE_SLICE_BYTES) {
      const length = Math.min(WRITE_SLICE_BYTES, sizeBytes - written);
      await handle.write(randomFillSync(slice), 0, length, written);
      report(written / sizeBytes, "writing random rows, once");
    }
    await handle.sync();
    await handle.close();
    await rename(temporary, file);
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
  return file;
}

function timed(select: () => ChunkPlan): PricedPlan {
  select();
  const startedAt = process.hrtime.bigint();
  const plan = select();
  return { plan, selectNs: Number(process.hrtime.bigint() - startedAt) };
}

/** The fewest most important rows whose importance reaches `target` (a share of the total). */
function rowsForImportance(importance: Float32Array, target: number): number {
  const descending = Float32Array.from(importance).sort().reverse();
  const total = descending.reduce((sum, value) => sum + value, 0);
  let sum = 0;
  let rows = 0;
  while (rows < descending.length && sum < target * total) sum += descending[rows++];
  return rows;
}

/** Algorithm 1 keeps half of the rows; top-k is given as many rows as it needs for the same importance. */
function selectPlans(
  importance: Float32Array,
  profile: DeviceProfile,
): Record<ScalePolicy, PricedPlan> {
  const request = {
    importance,
    rows: ROWS,
    rowBytes: ROW_BYTES,
    table: new LatencyTable(profile),
  };
  const selectors = {
    dense: createSelector("dense", { maxRows: ROWS }),
    topk: createSelector("topk", { maxRows: ROWS }),
    chunk: createSelector("chunk", { maxRows: ROWS }),
  };
  const chunk = timed(() => selectors.chunk.select({ ...request, budgetRows: ROWS * KEPT }));
  const target = importanceKept(chunk.plan, importance);
  const budgetRows = rowsForImportance(importance, target);
  return {
    dense: timed(() => selectors.dense.select(request)),
    topk: timed(() => selectors.topk.select({ ...request, budgetRows })),
    chunk,
  };
}

const median = (values: number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/**
 * Reads one real layer's worth of rows from this disk under the three policies at equal importance.
 * The order alternates between rounds; every read goes past the page cache where the file system allows it.
 */
export async function measureAtScale(
  folder: string,
  profile: DeviceProfile,
  report: ReportProgress,
  signal?: AbortSignal,
): Promise<ScaleReport> {
  const file = await ensureScaleFile(folder, report);
  const importance = lognormalImportance(ROWS, IMPORTANCE_VARIATION, IMPORTANCE_SEED);
  const plans = selectPlans(importance, profile);
  const reader = await FlashReader.open(file);
  try {
    const landing = reader.allocate(ROWS * ROW_BYTES + 2 * reader.alignmentBytes);
    const times: Record<ScalePolicy, number[]> = { dense: [], topk: [], chunk: [] };
    const bytesRead: Record<ScalePolicy, number> = { dense: 0, topk: 0, chunk: 0 };
    const order: ScalePolicy[] = ["dense", "topk", "chunk"];
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const policy of round % 2 === 0 ? order : [...order].reverse()) {
        report(round / ROUNDS, `round ${round + 1} of ${ROUNDS}`);
        const result = await reader.readPlan(
          plans[policy].plan,
          { baseOffsetBytes: 0, rowBytes: ROW_BYTES },
          { into: landing, ...(signal ? { signal } : {}) },
        );
        times[policy].push(result.elapsedNs);
        bytesRead[policy] = result.bytesRead;
      }
    }
    const measurement = (policy: ScalePolicy): ScaleMeasurement => ({
      ns: median(times[policy]),
      selectNs: plans[policy].selectNs,
      bytesRead: bytesRead[policy],
      rowsRead: selectedRows(plans[policy].plan),
      chunks: plans[policy].plan.chunkCount,
      importance: importanceKept(plans[policy].plan, importance),
    });
    return {
      rows: ROWS,
      rowBytes: ROW_BYTES,
      directIo: reader.backend.directIo,
      rounds: ROUNDS,
      policies: {
        dense: measurement("dense"),
        topk: measurement("topk"),
        chunk: measurement("chunk"),
      },
    };
  } finally {
    await reader.close();
  }
}
