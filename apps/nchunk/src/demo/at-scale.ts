import path from "node:path";
import { createSelector, importanceKept } from "@neuron-chunking/chunk-selector";
import { FlashReader } from "@neuron-chunking/flash-reader";
import {
  LatencyTable,
  requestTable,
  selectedRows,
  type ChunkPlan,
  type DeviceProfile,
} from "@neuron-chunking/latency-model";
import { ensureRandomFile } from "../random-file";
import { median } from "../statistics";
import type { ReportProgress } from "../terminal/progress";
import { lognormalImportance } from "./importance";
import { DEMO_POLICIES, type DemoPolicy } from "./policy-run";

/** The down projection of a 7B model (18944 inputs, 3584 bf16 outputs): PAPER's largest row count. */
const ROWS = 18944;
const ROW_BYTES = 7168;
const KEPT = 0.5;
/** The paper reports a coefficient of variation of 1.07 to 1.44 before most down projections (App. B.2). */
const IMPORTANCE_VARIATION = 1.3;
const IMPORTANCE_SEED = 2025;
const ROUNDS = 7;

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
  policies: Record<DemoPolicy, ScaleMeasurement>;
}

interface PricedPlan {
  plan: ChunkPlan;
  selectNs: number;
}

/** The layer's worth of random bytes. */
const ensureScaleFile = (
  folder: string,
  report: ReportProgress,
  signal?: AbortSignal,
): Promise<string> =>
  ensureRandomFile(
    path.join(folder, `rows-${ROWS}x${ROW_BYTES}.bin`),
    ROWS * ROW_BYTES,
    report,
    signal,
  );

function timed(select: () => ChunkPlan): PricedPlan {
  select();
  const startedAt = process.hrtime.bigint();
  const plan = select();
  return { plan, selectNs: Number(process.hrtime.bigint() - startedAt) };
}

/** The fewest most important rows whose importance reaches `target`, a sum. */
function rowsForImportance(importance: Float32Array, target: number): number {
  const descending = Float32Array.from(importance).sort().reverse();
  let sum = 0;
  let rows = 0;
  while (rows < descending.length && sum < target) sum += descending[rows++];
  return rows;
}

/** Algorithm 1 keeps half of the rows; top-k and lagrange are given its importance to reach. */
function selectPlans(
  importance: Float32Array,
  profile: DeviceProfile,
): Record<DemoPolicy, PricedPlan> {
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
    lagrange: createSelector("lagrange", { maxRows: ROWS }),
  };
  const chunk = timed(() => selectors.chunk.select({ ...request, budgetRows: ROWS * KEPT }));
  const total = importance.reduce((sum, value) => sum + value, 0);
  const importanceTarget = importanceKept(chunk.plan, importance) * total;
  const budgetRows = rowsForImportance(importance, importanceTarget);
  // What this reader's batches charge for a chunk; Algorithm 1 keeps to the paper's T[s].
  const priced = { ...request, table: requestTable(profile), importanceTarget };
  return {
    dense: timed(() => selectors.dense.select(request)),
    topk: timed(() => selectors.topk.select({ ...request, budgetRows })),
    chunk,
    lagrange: timed(() => selectors.lagrange.select({ ...priced, effort: "quick" })),
  };
}

/**
 * Reads one real layer's worth of rows from this disk under the four policies at equal importance.
 * The order alternates between rounds; every read goes past the page cache where the file system allows it.
 */
export async function measureAtScale(
  folder: string,
  profile: DeviceProfile,
  report: ReportProgress,
  signal?: AbortSignal,
): Promise<ScaleReport> {
  const file = await ensureScaleFile(folder, report, signal);
  const importance = lognormalImportance(ROWS, IMPORTANCE_VARIATION, IMPORTANCE_SEED);
  const plans = selectPlans(importance, profile);
  const reader = await FlashReader.open(file, { tuning: profile.reader?.tuning ?? {} });
  try {
    const landing = reader.allocate(ROWS * ROW_BYTES + 2 * reader.alignmentBytes);
    const times: Record<DemoPolicy, number[]> = { dense: [], topk: [], chunk: [], lagrange: [] };
    const bytesRead: Record<DemoPolicy, number> = { dense: 0, topk: 0, chunk: 0, lagrange: 0 };
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const policy of round % 2 === 0 ? DEMO_POLICIES : [...DEMO_POLICIES].reverse()) {
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
    const measurement = (policy: DemoPolicy): ScaleMeasurement => ({
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
        lagrange: measurement("lagrange"),
      },
    };
  } finally {
    await reader.close();
  }
}
