import type { LatencyTable } from "@neuron-chunking/latency-model";
import type { PlanWorkspace } from "./plan-workspace.js";
import { RowLatencies } from "./row-latencies.js";

/** How much of a plan there is room and time for. */
export interface ExcerptLimits {
  /** Bytes of rows, with `overheadBytes` for each chunk. */
  readonly bytes: number;
  /** Modelled read time, ns; may be infinite. */
  readonly readNs: number;
  /** What a chunk takes beyond its rows. */
  readonly overheadBytes: number;
}

/** Chunks of one class are between a power of two and the next. */
const LENGTH_CLASSES = 32;

/**
 * Keeps of a plan what fits the limits: long chunks before short ones (they take the least time for each byte, and what is
 * left is in fewer pieces; bench/plan-overlap.mjs), chunks of about the same length in the order of rows, and of the
 * first that does not fit its beginning.
 */
export class PlanExcerpt {
  /** Modelled read time of the last excerpt, ns. */
  readNs = 0;
  private readonly classBytes = new Float64Array(LENGTH_CLASSES);
  private readonly classNs = new Float64Array(LENGTH_CLASSES);
  private readonly latencies: RowLatencies;

  constructor(table: LatencyTable) {
    this.latencies = new RowLatencies(table);
  }

  /** Shortens `plan`, of rows of `rowBytes`, in place. */
  take(plan: PlanWorkspace, rowBytes: number, limits: ExcerptLimits): void {
    const { latencies } = this;
    latencies.setRowBytes(rowBytes);
    const leastClass = this.leastClass(plan, rowBytes, limits);
    let leftBytes = limits.bytes;
    let leftNs = limits.readNs;
    for (let length = leastClass + 1; length < LENGTH_CLASSES; length++) {
      leftBytes -= this.classBytes[length];
      leftNs -= this.classNs[length];
    }
    this.readNs = 0;
    let kept = 0;
    for (let c = 0; c < plan.chunkCount; c++) {
      let rows = plan.lengths[c];
      const lengthClass = classOf(rows);
      if (lengthClass < leastClass) continue;
      if (lengthClass === leastClass) {
        const wanted = rows;
        rows = this.rowsWithin(rows, rowBytes, leftBytes - limits.overheadBytes, leftNs);
        leftBytes -= rows * rowBytes + limits.overheadBytes;
        leftNs -= latencies.ns(rows);
        // The first that does not fit is the last of its class.
        if (rows < wanted) leftBytes = 0;
        if (rows < 1) continue;
      }
      plan.starts[kept] = plan.starts[c];
      plan.lengths[kept] = rows;
      kept += 1;
      this.readNs += latencies.ns(rows);
    }
    plan.chunkCount = kept;
  }

  /** The class of which only a part fits beside all chunks of the classes above; -1 where every chunk fits. */
  private leastClass(plan: PlanWorkspace, rowBytes: number, limits: ExcerptLimits): number {
    const { classBytes, classNs, latencies } = this;
    classBytes.fill(0);
    classNs.fill(0);
    for (let c = 0; c < plan.chunkCount; c++) {
      const rows = plan.lengths[c];
      const lengthClass = classOf(rows);
      classBytes[lengthClass] += rows * rowBytes + limits.overheadBytes;
      classNs[lengthClass] += latencies.ns(rows);
    }
    let sumBytes = 0;
    let sumNs = 0;
    for (let length = LENGTH_CLASSES - 1; length >= 0; length--) {
      sumBytes += classBytes[length];
      sumNs += classNs[length];
      if (sumBytes > limits.bytes || sumNs > limits.readNs) return length;
    }
    return -1;
  }

  /** Most of `rows` rows that fit; latency does not fall with size. */
  private rowsWithin(rows: number, rowBytes: number, bytes: number, readNs: number): number {
    let most = Math.min(rows, Math.max(0, Math.floor(bytes / rowBytes)));
    if (this.latencies.ns(most) <= readNs) return most;
    let least = 0;
    while (most - least > 1) {
      const middle = Math.floor((least + most) / 2);
      if (this.latencies.ns(middle) <= readNs) least = middle;
      else most = middle;
    }
    return least;
  }
}

function classOf(rows: number): number {
  return LENGTH_CLASSES - 1 - Math.clz32(rows);
}
