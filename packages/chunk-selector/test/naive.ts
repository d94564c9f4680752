import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import type { ChunkHyperparameters } from "../src/index.js";

/**
 * Algorithm 1 read line by line from the paper, with objects, closures and a comparator: the model against
 * which the implementation is tested. It shares no code with it.
 */
export function naiveAlgorithm1(
  importance: ArrayLike<number>,
  budget: number,
  rowBytes: number,
  table: LatencyTable,
  { minKiB, stepKiB, maxKiB, jumpKiB }: ChunkHyperparameters,
): number[] {
  const n = importance.length;
  const all = Array.from({ length: n }, (_, row) => row);
  // Documented: a budget for every row is the dense plan.
  if (budget >= n) return all;

  // 1. KB to rows.
  const rowKiB = rowBytes / 1024;
  const toRows = (kib: number): number => Math.max(1, Math.floor(kib / rowKiB));
  // Documented: the smallest window is clipped to the budget.
  const rMin = Math.min(toRows(minKiB), budget);
  const [dr, rMax, jump] = [toRows(stepKiB), toRows(maxKiB), toRows(jumpKiB)];

  // 2. Prefix sums.
  const prefix = [0];
  for (const row of all) prefix.push(prefix[row] + importance[row]);

  // 3. Candidates. Sizes past the budget are generated too: they must never matter.
  const candidates: { score: number; start: number; size: number }[] = [];
  for (let size = rMin; size >= 1 && size <= rMax; size += dr) {
    for (let start = 0; start + size <= n; start += Math.min(size, jump)) {
      const sum = prefix[start + size] - prefix[start];
      candidates.push({
        score: toSinglePrecision(sum / table.latencyNs(size * rowBytes)),
        start,
        size,
      });
    }
  }

  // 4. By score; documented: then the smaller size, then the lower start.
  candidates.sort((a, b) => b.score - a.score || a.size - b.size || a.start - b.start);

  // 5. Take what overlaps nothing taken and fits.
  const selected = new Set<number>();
  for (const { start, size } of candidates) {
    if (selected.size === budget) break;
    if (size > budget - selected.size) continue;
    const window = Array.from({ length: size }, (_, offset) => start + offset);
    if (window.some((row) => selected.has(row))) continue;
    for (const row of window) selected.add(row);
  }
  return [...selected].sort((a, b) => a - b);
}

/** The `budget` most important rows, by sorting objects; ties to the lower row. */
export function naiveTopk(importance: ArrayLike<number>, budget: number): number[] {
  return Array.from(importance, (value, row) => ({ value, row }))
    .sort((a, b) => b.value - a.value || a.row - b.row)
    .slice(0, budget)
    .map(({ row }) => row)
    .sort((a, b) => a - b);
}

/** The rows of a plan, one by one. */
export function rowsOf(plan: ChunkPlan): number[] {
  const rows: number[] = [];
  for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
    for (let offset = 0; offset < plan.lengths[chunk]; offset++) {
      rows.push(plan.starts[chunk] + offset);
    }
  }
  return rows;
}

/** Rounds to the 24 significant bits of single precision, without its limits on the exponent. */
function toSinglePrecision(value: number): number {
  if (value === 0) return 0;
  const exponent = Math.floor(Math.log2(value));
  return Math.fround(value / 2 ** exponent) * 2 ** exponent;
}
