import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";

/**
 * The most that `sum(v) - price * L` can be: the program over (row, length of the run that the row ends), row by row, with
 * the table's own increments. O(rows^2), no pruning.
 */
export function naivePricedValue(
  importance: ArrayLike<number>,
  table: LatencyTable,
  rowBytes: number,
  price: number,
): number {
  const rows = importance.length;
  const latencyNs = (length: number): number => table.latencyNs(length * rowBytes);
  // best[0]: the last row is not selected; best[l]: it is the l-th of its run.
  let best = [0];
  for (let row = 0; row < rows; row++) {
    const next = [Math.max(...best)];
    for (let length = 0; length < best.length; length++) {
      const grownNs = latencyNs(length + 1) - latencyNs(length);
      next.push(best[length] + importance[row] - price * grownNs);
    }
    best = next;
  }
  return Math.max(...best);
}

/** Sum of the importance of a plan's rows. */
export function planImportance(plan: ChunkPlan, importance: ArrayLike<number>): number {
  let sum = 0;
  for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
    const end = plan.starts[chunk] + plan.lengths[chunk];
    for (let row = plan.starts[chunk]; row < end; row++) sum += importance[row];
  }
  return sum;
}
