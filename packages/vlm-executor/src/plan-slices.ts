import type { ChunkPlan } from "@neuron-chunking/latency-model";

/** Enough slices for reading and multiplying to overlap, few enough for each read to be a large batch. */
const SLICES_PER_PLAN = 4;
/** Below this a slice no longer keeps the device's queue full. */
const MIN_SLICE_BYTES = 1 << 20;

interface Slice {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  chunkCount: number;
}

/**
 * Cuts a plan into consecutive slices that each fit a landing buffer, so that one is read while the one
 * before is multiplied. A chunk longer than a slice is cut too. Slices alternate between two workspaces:
 * one stays valid until the second next call of `next`.
 */
export class PlanSlicer {
  private readonly workspaces: readonly [Slice, Slice];
  private turn = 0;
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
    const slice = (): Slice => ({
      starts: new Uint32Array(maxRows),
      lengths: new Uint32Array(maxRows),
      chunkCount: 0,
    });
    this.workspaces = [slice(), slice()];
  }

  begin(plan: ChunkPlan, rowBytes: number): void {
    this.plan = plan;
    this.rowBytes = rowBytes;
    this.chunk = 0;
    this.rowInChunk = 0;
    let totalBytes = plan.chunkCount * this.overheadBytesPerChunk;
    for (let c = 0; c < plan.chunkCount; c++) totalBytes += plan.lengths[c] * rowBytes;
    const wanted = Math.max(MIN_SLICE_BYTES, Math.ceil(totalBytes / SLICES_PER_PLAN));
    const oneRow = rowBytes + this.overheadBytesPerChunk;
    this.sliceBytes = Math.max(oneRow, Math.min(this.capacityBytes, wanted));
  }

  /** The next slice, or `null` after the last. */
  next(): ChunkPlan | null {
    const plan = this.plan;
    if (plan === null || this.chunk >= plan.chunkCount) return null;
    const slice = this.workspaces[this.turn];
    this.turn = 1 - this.turn;
    slice.chunkCount = 0;
    let freeBytes = this.sliceBytes;
    while (this.chunk < plan.chunkCount) {
      const room = Math.floor((freeBytes - this.overheadBytesPerChunk) / this.rowBytes);
      if (room < 1) break;
      const left = plan.lengths[this.chunk] - this.rowInChunk;
      const rows = Math.min(left, room);
      slice.starts[slice.chunkCount] = plan.starts[this.chunk] + this.rowInChunk;
      slice.lengths[slice.chunkCount] = rows;
      slice.chunkCount += 1;
      freeBytes -= rows * this.rowBytes + this.overheadBytesPerChunk;
      this.rowInChunk += rows;
      if (rows === left) {
        this.chunk += 1;
        this.rowInChunk = 0;
      }
    }
    return slice;
  }
}

/** A stored matrix as the size of its slices depends on it. */
interface StoredSize {
  readonly rows: number;
  readonly rowBytes: number;
}

/**
 * Size of a landing buffer: enough for a slice of every matrix, at most `limitBytes` (but never less than
 * one row).
 */
export function landingCapacityBytes(
  matrices: readonly StoredSize[],
  limitBytes: number,
  overheadBytesPerChunk: number,
): number {
  let capacityBytes = 0;
  for (const { rows, rowBytes } of matrices) {
    // No plan has more chunks than every other row.
    const most = rows * rowBytes + Math.ceil(rows / 2) * overheadBytesPerChunk;
    const slice = Math.min(most, Math.max(MIN_SLICE_BYTES, Math.ceil(most / SLICES_PER_PLAN)));
    const oneRow = rowBytes + overheadBytesPerChunk;
    capacityBytes = Math.max(capacityBytes, oneRow, Math.min(slice, limitBytes));
  }
  return capacityBytes;
}
