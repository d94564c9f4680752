import type { ChunkPlan } from "@neuron-chunking/latency-model";

/**
 * Landing buffers of a model. Slices are read into all but those being multiplied, and at most half of them are
 * multiplied at once, so that reading goes on meanwhile.
 */
export const LANDING_PARTS = 8;
/** Little to wait for before the first is multiplied, and little to multiply after the last has landed. */
const SLICES_PER_PLAN = 16;
/** Below this, what the host does for a slice takes as long as a fast drive does. */
const MIN_SLICE_BYTES = 1 << 19;

/** Pieces `[first, first + count)` of the slicer's `starts` and `lengths`. */
export interface Slice {
  readonly first: number;
  readonly count: number;
}

/**
 * Cuts a plan into consecutive slices that each fit a landing buffer, so that some are read while others are
 * multiplied. A chunk longer than a slice is cut too. All pieces lie in `starts` and `lengths` one after the
 * other, until the next `begin`, so that neighbouring slices can be taken together.
 */
export class PlanSlicer {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  private pieces = 0;
  private plan: ChunkPlan | null = null;
  private chunk = 0;
  private rowInChunk = 0;
  private rowBytes = 0;
  private sliceBytes = 0;

  /**
   * @param maxRows rows of the largest matrix
   * @param capacityBytes size of one landing buffer
   * @param overheadBytesPerChunk what alignment can add to a chunk at most
   */
  constructor(
    maxRows: number,
    private readonly capacityBytes: number,
    private readonly overheadBytesPerChunk: number,
  ) {
    // No piece is shorter than a row.
    this.starts = new Uint32Array(maxRows);
    this.lengths = new Uint32Array(maxRows);
  }

  begin(plan: ChunkPlan, rowBytes: number): void {
    this.plan = plan;
    this.rowBytes = rowBytes;
    this.pieces = 0;
    this.chunk = 0;
    this.rowInChunk = 0;
    let totalBytes = plan.chunkCount * this.overheadBytesPerChunk;
    for (let c = 0; c < plan.chunkCount; c++) totalBytes += plan.lengths[c] * rowBytes;
    const wanted = Math.max(MIN_SLICE_BYTES, Math.ceil(totalBytes / SLICES_PER_PLAN));
    const oneRow = rowBytes + this.overheadBytesPerChunk;
    this.sliceBytes = Math.max(oneRow, Math.min(this.capacityBytes, wanted));
  }

  /** The next slice, or `null` after the last. */
  next(): Slice | null {
    const { plan, starts, lengths } = this;
    if (plan === null || this.chunk >= plan.chunkCount) return null;
    const first = this.pieces;
    let freeBytes = this.sliceBytes;
    while (this.chunk < plan.chunkCount) {
      const room = Math.floor((freeBytes - this.overheadBytesPerChunk) / this.rowBytes);
      if (room < 1) break;
      const left = plan.lengths[this.chunk] - this.rowInChunk;
      const rows = Math.min(left, room);
      starts[this.pieces] = plan.starts[this.chunk] + this.rowInChunk;
      lengths[this.pieces] = rows;
      this.pieces += 1;
      freeBytes -= rows * this.rowBytes + this.overheadBytesPerChunk;
      this.rowInChunk += rows;
      if (rows === left) {
        this.chunk += 1;
        this.rowInChunk = 0;
      }
    }
    return { first, count: this.pieces - first };
  }
}

/** A stored matrix as the size of its slices depends on it. */
interface StoredSize {
  readonly rows: number;
  readonly rowBytes: number;
}

/**
 * Size of one of the `LANDING_PARTS` landing buffers: enough for a slice of every matrix, together at most
 * `limitBytes` (but never less than one row each).
 */
export function landingCapacityBytes(
  matrices: readonly StoredSize[],
  limitBytes: number,
  overheadBytesPerChunk: number,
): number {
  const limit = Math.floor(limitBytes / LANDING_PARTS);
  let capacityBytes = 0;
  for (const { rows, rowBytes } of matrices) {
    // No plan has more chunks than every other row.
    const most = rows * rowBytes + Math.ceil(rows / 2) * overheadBytesPerChunk;
    const slice = Math.min(most, Math.max(MIN_SLICE_BYTES, Math.ceil(most / SLICES_PER_PLAN)));
    const oneRow = rowBytes + overheadBytesPerChunk;
    capacityBytes = Math.max(capacityBytes, oneRow, Math.min(slice, limit));
  }
  return capacityBytes;
}
