import type { ChunkPlan } from "@neuron-chunking/latency-model";

/** Landing buffers of a model: for what is multiplied, and for what is read meanwhile. */
export const LANDING_PARTS = 16;
/** Long chunks are cut at whole pages of the file, where that takes no more than so many rows. */
const MOST_CUT_ROWS = 16;
const PAGE_BYTES = 4096;
/** Little to wait for before the first is multiplied, and little to multiply after the last has landed. */
const SLICES_PER_PLAN = 14;
/** Smaller ones wake the threads that multiply more often than it is worth. */
const MIN_SLICE_BYTES = 1 << 18;

/**
 * Cuts a plan into consecutive slices that each fit a landing buffer, so that some are read while others are
 * multiplied. A chunk longer than a slice is cut too. All pieces lie in `starts` and `lengths` one after the
 * other, until the next `cut`.
 */
export class PlanSlicer {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  /** The slice of each piece. */
  readonly slices: Uint32Array;
  /** Slice `i` is pieces `[ends[i - 1], ends[i])`, the first from 0 on. */
  readonly ends: Uint32Array;
  /** Slices of the plan. */
  count = 0;
  pieceCount = 0;

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
    this.slices = new Uint32Array(maxRows);
    this.ends = new Uint32Array(maxRows);
  }

  clear(): void {
    this.count = this.pieceCount = 0;
  }

  cut(plan: ChunkPlan, rowBytes: number): void {
    const { starts, lengths, slices, ends, overheadBytesPerChunk } = this;
    const sliceBytes = this.sliceBytes(plan, rowBytes);
    const cutRows = rowsToAPage(rowBytes);
    this.count = 0;
    let pieces = 0;
    let freeBytes = sliceBytes;
    const end = (): void => {
      ends[this.count++] = pieces;
      freeBytes = sliceBytes;
    };
    for (let c = 0; c < plan.chunkCount; c++) {
      let row = plan.starts[c];
      for (let left = plan.lengths[c]; left > 0;) {
        const room = Math.floor((freeBytes - overheadBytesPerChunk) / rowBytes);
        if (room < 1) {
          end();
          continue;
        }
        const rows = left <= room ? left : rowsToCut(row, room, cutRows);
        starts[pieces] = row;
        lengths[pieces] = rows;
        slices[pieces] = this.count;
        pieces += 1;
        freeBytes -= rows * rowBytes + overheadBytesPerChunk;
        row += rows;
        left -= rows;
        if (left > 0) end();
      }
    }
    if (pieces > (this.count === 0 ? 0 : ends[this.count - 1])) end();
    this.pieceCount = pieces;
  }

  private sliceBytes(plan: ChunkPlan, rowBytes: number): number {
    let totalBytes = plan.chunkCount * this.overheadBytesPerChunk;
    for (let c = 0; c < plan.chunkCount; c++) totalBytes += plan.lengths[c] * rowBytes;
    const wanted = Math.max(MIN_SLICE_BYTES, Math.ceil(totalBytes / SLICES_PER_PLAN));
    const oneRow = rowBytes + this.overheadBytesPerChunk;
    return Math.max(oneRow, Math.min(this.capacityBytes, wanted));
  }
}

/** Rows after which a row starts at a page again, at most `MOST_CUT_ROWS`. */
function rowsToAPage(rowBytes: number): number {
  let rows = 1;
  while (rows < MOST_CUT_ROWS && (rows * rowBytes) % PAGE_BYTES !== 0) rows *= 2;
  return rows;
}

/** Most rows from `row` on, but no more than `room`, that end at a multiple of `cutRows`. */
function rowsToCut(row: number, room: number, cutRows: number): number {
  const end = Math.floor((row + room) / cutRows) * cutRows;
  return end > row ? end - row : room;
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
