import { budgetRows, createSelector } from "@neuron-chunking/chunk-selector";
import { copyPlan, type ChunkPlan, type LatencyTable } from "@neuron-chunking/latency-model";
import { lognormalImportance } from "../demo/importance";
import type { FileRange } from "./fio/iolog";

/** Matrices start at whole pages, as those of a flash image do. */
const PAGE_BYTES = 4096;

export const alignToPage = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

/** Where the rows of `plan` lie in the file when its matrix starts at `baseOffsetBytes`. */
export function planRanges(
  plan: ChunkPlan,
  rowBytes: number,
  baseOffsetBytes: number,
): FileRange[] {
  return Array.from({ length: plan.chunkCount }, (_, chunk) => ({
    offsetBytes: baseOffsetBytes + plan.starts[chunk] * rowBytes,
    lengthBytes: plan.lengths[chunk] * rowBytes,
  }));
}

export interface SelectionQuery {
  readonly policy: "topk" | "threshold" | "chunk";
  readonly rows: number;
  readonly rowBytes: number;
  /** Share of the rows to keep. */
  readonly keep: number;
  /** Coefficient of variation of the log-normal importances. */
  readonly variation: number;
  readonly seed: number;
}

/** What a policy selects from log-normal importances; a plan of its own memory. */
export function selectedPlan(query: SelectionQuery, table: LatencyTable): ChunkPlan {
  const { policy, rows, rowBytes, keep, variation, seed } = query;
  const importance = lognormalImportance(rows, variation, seed);
  const budget = budgetRows(rows, 1 - keep);
  const threshold = importance.slice().sort()[rows - budget];
  const request = { importance, rows, rowBytes, budgetRows: budget, threshold, table };
  return copyPlan(createSelector(policy, { maxRows: rows }).select(request));
}
