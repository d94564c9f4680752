import type { ChunkPlan } from "@neuron-chunking/latency-model";

/** A plan that is made again and again in the same memory. */
export class PlanWorkspace implements ChunkPlan {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  chunkCount = 0;

  /** @param maxRows rows of the largest matrix */
  constructor(maxRows: number) {
    const chunks = mostChunks(maxRows);
    this.starts = new Uint32Array(chunks);
    this.lengths = new Uint32Array(chunks);
  }

  clear(): void {
    this.chunkCount = 0;
  }

  /** @param end one past the last row; more than `start` */
  add(start: number, end: number): void {
    this.starts[this.chunkCount] = start;
    this.lengths[this.chunkCount] = end - start;
    this.chunkCount += 1;
  }
}

/** No plan of so many rows has more chunks: every other row. */
export function mostChunks(rows: number): number {
  return Math.ceil(rows / 2);
}
