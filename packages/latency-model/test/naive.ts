import type { ChunkPlan } from "../src/index.js";

/** The rules of `ReadRequests`, restated on lists: requests for a plan, bytes each. */
export function naiveRequests(
  plan: ChunkPlan,
  rowBytes: number,
  readThroughBytes: number,
  maxRequestBytes: number,
): number[] {
  const chunks = Array.from({ length: plan.chunkCount }, (_, chunk) => ({
    from: plan.starts[chunk] * rowBytes,
    to: (plan.starts[chunk] + plan.lengths[chunk]) * rowBytes,
  }));
  const runs: (typeof chunks)[] = [];
  for (const chunk of chunks) {
    const run = runs.at(-1);
    const joined = run === undefined ? [] : [...run, chunk];
    const wanted = joined.reduce((sum, { from, to }) => sum + to - from, 0);
    const fits =
      run !== undefined &&
      chunk.from - run[run.length - 1].to <= readThroughBytes &&
      chunk.to - run[0].from <= 2 * wanted;
    if (fits) run.push(chunk);
    else runs.push([chunk]);
  }
  return runs.flatMap((run) => {
    const span = run[run.length - 1].to - run[0].from;
    const parts = Math.ceil(span / maxRequestBytes);
    return Array.from({ length: parts }, (_, part) => Math.ceil((span - part) / parts));
  });
}

/** The makespan by searching all lanes for the one that is free first. */
export function naiveMakespan(jobs: readonly number[], lanes: number): number {
  const free = new Array<number>(lanes).fill(0);
  for (const job of jobs) free[free.indexOf(Math.min(...free))] += job;
  return Math.max(...free);
}
