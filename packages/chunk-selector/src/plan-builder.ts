import type { ChunkPlan } from "@neuron-chunking/latency-model";

/** A reusable plan under construction. Rows are added in ascending order; touching runs become one chunk. */
export class PlanBuilder implements ChunkPlan {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  chunkCount = 0;
  #end = -1;

  /** @param maxRows Most rows of a projection; maximal runs number at most half of them, rounded up. */
  constructor(maxRows: number) {
    this.starts = new Uint32Array((maxRows + 1) >>> 1);
    this.lengths = new Uint32Array((maxRows + 1) >>> 1);
  }

  clear(): this {
    this.chunkCount = 0;
    this.#end = -1;
    return this;
  }

  /** Appends a run that starts at or after the end of the last one. */
  add(start: number, length: number): void {
    if (start === this.#end) {
      this.lengths[this.chunkCount - 1] += length;
    } else {
      this.starts[this.chunkCount] = start;
      this.lengths[this.chunkCount++] = length;
    }
    this.#end = start + length;
  }

  /** Every row of `rows` as one chunk. */
  fillDense(rows: number): this {
    this.clear();
    if (rows > 0) this.add(0, rows);
    return this;
  }
}
