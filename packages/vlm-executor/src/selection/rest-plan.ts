import type { ChunkPlan } from "@neuron-chunking/latency-model";

/**
 * Plans of the rows beyond a resident prefix, in the matrix's own row numbers. One workspace: a plan is valid until the
 * next is made.
 */
export class RestPlan {
  private readonly plan: { starts: Uint32Array; lengths: Uint32Array; chunkCount: number };

  /** @param maxRows rows of the largest matrix */
  constructor(maxRows: number) {
    // No plan has more chunks than every other row.
    const chunks = Math.ceil(maxRows / 2);
    this.plan = {
      starts: new Uint32Array(chunks),
      lengths: new Uint32Array(chunks),
      chunkCount: 0,
    };
  }

  /** No row. */
  none(): ChunkPlan {
    this.plan.chunkCount = 0;
    return this.plan;
  }

  /** The part of a plan of the whole matrix that lies at and after row `firstRow`. */
  from(whole: ChunkPlan, firstRow: number): ChunkPlan {
    const { starts, lengths } = this.plan;
    let count = 0;
    for (let c = 0; c < whole.chunkCount; c++) {
      const end = whole.starts[c] + whole.lengths[c];
      if (end <= firstRow) continue;
      starts[count] = Math.max(firstRow, whole.starts[c]);
      lengths[count] = end - starts[count];
      count += 1;
    }
    this.plan.chunkCount = count;
    return this.plan;
  }

  /** A plan whose row 0 is the matrix's row `firstRow`. */
  moved(rest: ChunkPlan, firstRow: number): ChunkPlan {
    const { starts, lengths } = this.plan;
    for (let c = 0; c < rest.chunkCount; c++) {
      starts[c] = rest.starts[c] + firstRow;
      lengths[c] = rest.lengths[c];
    }
    this.plan.chunkCount = rest.chunkCount;
    return this.plan;
  }
}
