import type { ChunkPlan } from "./chunk-plan.js";
import type { LatencyTable } from "./latency-table.js";
import { requireInteger } from "./errors.js";

/**
 * Estimated time to read a plan: `L(M) = sum over chunks of T[size]` (paper section 3.1), ns.
 *
 * The estimate ranks plans; against measurements it carries a proportional bias (App. D). No allocation once
 * the table has seen this row width.
 *
 * @param plan Chunks to read.
 * @param rowBytes Bytes of one row, an integer of at least 1.
 * @param table The device's read latencies.
 * @throws LatencyModelError `INVALID_ARGUMENT`.
 */
export function estimatePlanNs(plan: ChunkPlan, rowBytes: number, table: LatencyTable): number {
  requireInteger(rowBytes, "rowBytes", 1);
  const saturationRows = Math.floor(table.saturationBytes / rowBytes);
  const latencies = table.rowLatencyNs(rowBytes, saturationRows);
  let totalNs = 0;
  for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
    const rows = plan.lengths[chunk];
    totalNs += rows < latencies.length ? latencies[rows] : table.latencyNs(rows * rowBytes);
  }
  return totalNs;
}
