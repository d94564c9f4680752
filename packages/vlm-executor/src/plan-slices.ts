import type { ChunkPlan } from "@neuron-chunking/latency-model";

/** Landing buffers of a model: half for what is multiplied, half for what is read meanwhile. */
export const LANDING_PARTS = 16;
const MOST_TOGETHER = LANDING_PARTS / 2;
/** From here on a product packs its inputs and passes over the whole output, so that few products are better. */
const MANY_TOKENS = 5;
/** Long chunks are cut at multiples of this many rows: with rows of n * 256 bytes, at whole pages of the file. */
const CUT_ROWS = 16;
/** Little to wait for before the first is multiplied, and little to multiply after the last has landed. */
const SLICES_PER_PLAN = 16;
/** Below this, what the host does for a slice takes as long as a fast drive does. */
const MIN_SLICE_BYTES = 1 << 19;

/**
 * Cuts a plan into consecutive slices that each fit a landing buffer, so that some are read while others are
 * multiplied. A chunk longer than a slice is cut too. All pieces lie in `starts` and `lengths` one after the
 * other, until the next `cut`, so that neighbouring slices can be taken together.
 */
export class PlanSlicer {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  /** Slice `i` is pieces `[ends[i - 1], ends[i])`, the first from 0 on. */
  readonly ends: Uint32Array;
  /** Slices of the plan. */
  count = 0;

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
    this.ends = new Uint32Array(maxRows);
  }

  cut(plan: ChunkPlan, rowBytes: number): void {
    const { starts, lengths, ends, overheadBytesPerChunk } = this;
    const sliceBytes = this.sliceBytes(plan, rowBytes);
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
        const rows = left <= room ? left : rowsToCut(row, room);
        starts[pieces] = row;
        lengths[pieces] = rows;
        pieces += 1;
        freeBytes -= rows * rowBytes + overheadBytesPerChunk;
        row += rows;
        left -= rows;
        if (left > 0) end();
      }
    }
    if (pieces > (this.count === 0 ? 0 : ends[this.count - 1])) end();
  }

  private sliceBytes(plan: ChunkPlan, rowBytes: number): number {
    let totalBytes = plan.chunkCount * this.overheadBytesPerChunk;
    for (let c = 0; c < plan.chunkCount; c++) totalBytes += plan.lengths[c] * rowBytes;
    const wanted = Math.max(MIN_SLICE_BYTES, Math.ceil(totalBytes / SLICES_PER_PLAN));
    const oneRow = rowBytes + this.overheadBytesPerChunk;
    return Math.max(oneRow, Math.min(this.capacityBytes, wanted));
  }
}

/** Most rows from `row` on, but no more than `room`, that end where a chunk is well cut. */
function rowsToCut(row: number, room: number): number {
  const end = Math.floor((row + room) / CUT_ROWS) * CUT_ROWS;
  return end > row ? end - row : room;
}

/**
 * How many of the slices from `done` on are multiplied together. It must not depend on what has landed: sums would
 * come out differently from run to run.
 *
 * Few tokens: half of what is left each time, so that little is left to do when the last has landed. Many: few
 * products, the first and the last of them a quarter of the landings, so that little is waited for at either end.
 *
 * @param product products before this one
 */
export function slicesTogether(
  product: number,
  done: number,
  count: number,
  tokens: number,
): number {
  const left = count - done;
  if (tokens < MANY_TOKENS) return Math.min(MOST_TOGETHER, Math.ceil(left / 2));
  const quarter = LANDING_PARTS / 4;
  if (product === 0) return Math.min(quarter, Math.ceil(count / 4));
  return left <= 1.5 * quarter ? left : Math.min(MOST_TOGETHER, left - quarter);
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
