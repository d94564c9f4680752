import type { ChunkPlan } from "./chunk-plan.js";
import { requireInteger } from "./errors.js";

/** How a reader turns chunks into requests; part of `ReaderTuning` and of `BatchModelParameters`. */
export interface ReadLimits {
  /** Gaps of up to this many bytes are read through, an integer of at least 0. */
  readonly readThroughBytes: number;
  /** Longer requests are split into equal parts, bytes, an integer of at least 1. */
  readonly maxRequestBytes: number;
}

/** A run that was read through may be at most this many times the bytes wanted in it. */
const MAX_SPAN_PER_WANTED = 2;

const INITIAL_CAPACITY = 256;

/**
 * The requests that a reader issues for a plan, in order: a workspace that is filled again and again.
 *
 * From left to right, a chunk joins the run before it when the gap between them is at most
 * `readThroughBytes` and the run's span stays at most twice the bytes wanted in it. A run longer than
 * `maxRequestBytes` becomes `ceil(span / maxRequestBytes)` requests that differ by one byte at most.
 *
 * Alignment is left out: a reader widens each request to whole blocks, less than a block on either side,
 * and the times it is used with were measured with the same widening.
 */
export class ReadRequests {
  /** Bytes of each request, `[>= count]`; another array once it had to grow. Owned by the workspace. */
  sizesBytes = new Float64Array(INITIAL_CAPACITY);
  /** Number of requests. */
  count = 0;

  /**
   * Replaces the requests by those for `plan`. No allocation unless there are more than ever before.
   *
   * @param plan Chunks wanted, sorted and disjoint; chunks that touch are one.
   * @param rowBytes Bytes of one row, an integer of at least 1.
   * @param limits Checked where they come from: not here, because this is called once per read.
   * @throws LatencyModelError `INVALID_ARGUMENT` on a bad `rowBytes`.
   */
  fill(plan: ChunkPlan, rowBytes: number, limits: ReadLimits): void {
    requireInteger(rowBytes, "rowBytes", 1);
    this.count = 0;
    if (plan.chunkCount === 0) return;
    const { starts, lengths } = plan;
    let startBytes = starts[0] * rowBytes;
    let wantedBytes = lengths[0] * rowBytes;
    let endBytes = startBytes + wantedBytes;
    for (let chunk = 1; chunk < plan.chunkCount; chunk++) {
      const chunkStartBytes = starts[chunk] * rowBytes;
      const chunkBytes = lengths[chunk] * rowBytes;
      const spanBytes = chunkStartBytes + chunkBytes - startBytes;
      const joins =
        chunkStartBytes - endBytes <= limits.readThroughBytes &&
        spanBytes <= MAX_SPAN_PER_WANTED * (wantedBytes + chunkBytes);
      if (joins) {
        wantedBytes += chunkBytes;
      } else {
        this.#push(endBytes - startBytes, limits.maxRequestBytes);
        startBytes = chunkStartBytes;
        wantedBytes = chunkBytes;
      }
      endBytes = chunkStartBytes + chunkBytes;
    }
    this.#push(endBytes - startBytes, limits.maxRequestBytes);
  }

  #push(spanBytes: number, maxRequestBytes: number): void {
    const parts = Math.ceil(spanBytes / maxRequestBytes);
    const shortBytes = Math.floor(spanBytes / parts);
    const longParts = spanBytes - shortBytes * parts;
    this.#reserve(this.count + parts);
    for (let part = 0; part < parts; part++) {
      this.sizesBytes[this.count++] = part < longParts ? shortBytes + 1 : shortBytes;
    }
  }

  #reserve(count: number): void {
    if (count <= this.sizesBytes.length) return;
    const grown = new Float64Array(Math.max(count, 2 * this.sizesBytes.length));
    grown.set(this.sizesBytes);
    this.sizesBytes = grown;
  }
}
