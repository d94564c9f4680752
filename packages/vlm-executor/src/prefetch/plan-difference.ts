import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import { mostChunks, PlanWorkspace } from "./plan-workspace.js";
import { RowLatencies } from "./row-latencies.js";

/** Rows of a plan that are in memory already. Its arrays are longer than `chunkCount`. */
export interface PresentRows extends ChunkPlan {
  /** The chunk of the rows read ahead that each piece is part of, ascending. */
  readonly sources: Uint32Array;
}

class PresentWorkspace extends PlanWorkspace implements PresentRows {
  readonly sources: Uint32Array;

  constructor(maxRows: number) {
    super(maxRows);
    this.sources = new Uint32Array(mostChunks(maxRows));
  }

  addFrom(source: number, start: number, end: number): void {
    this.sources[this.chunkCount] = source;
    this.add(start, end);
  }

  /** Keeps piece `from` as piece `to`. */
  move(from: number, to: number): void {
    this.starts[to] = this.starts[from];
    this.lengths[to] = this.lengths[from];
    this.sources[to] = this.sources[from];
  }
}

/**
 * Splits a plan into rows that were read ahead and rows that are still to be read: each row of the plan is in exactly
 * one of the two, no other row in either.
 *
 * Rows to be read do not fall into many small reads: where the table says that reading through rows that are there is no
 * slower, they are read again (and are not among `present`). The modelled latency of `missing` is never above the plan's.
 *
 * One workspace: both lists are valid until the next `split`, which allocates nothing.
 */
export class PlanDifference {
  private readonly there: PresentWorkspace;
  private readonly rest: PlanWorkspace;
  private readonly latencies: RowLatencies;

  /** @param maxRows rows of the largest matrix */
  constructor(maxRows: number, table: LatencyTable) {
    this.latencies = new RowLatencies(table);
    this.there = new PresentWorkspace(maxRows);
    this.rest = new PlanWorkspace(maxRows);
  }

  /** Rows of the plan to take from what was read ahead. */
  get present(): PresentRows {
    return this.there;
  }

  /** Rows of the plan to read. */
  get missing(): ChunkPlan {
    return this.rest;
  }

  /**
   * @param plan sorted, disjoint, maximal chunks, as selectors make them
   * @param ahead rows that were read ahead, chunks of the same kind
   */
  split(plan: ChunkPlan, ahead: ChunkPlan, rowBytes: number): void {
    const { there, rest } = this;
    there.clear();
    rest.clear();
    this.latencies.setRowBytes(rowBytes);
    let source = 0;
    for (let c = 0; c < plan.chunkCount; c++) {
      const start = plan.starts[c];
      const end = start + plan.lengths[c];
      while (source < ahead.chunkCount && endOf(ahead, source) <= start) source++;
      const firstMissing = rest.chunkCount;
      const firstPresent = there.chunkCount;
      this.cut(start, end, ahead, source);
      if (rest.chunkCount - firstMissing > 1) {
        this.readThrough(firstMissing);
        this.dropReadAgain(firstPresent, firstMissing);
      }
    }
  }

  /** Pieces of one chunk of the plan; `source` is the first chunk ahead that ends after its start. */
  private cut(start: number, end: number, ahead: ChunkPlan, source: number): void {
    const { there, rest } = this;
    let row = start;
    for (let s = source; s < ahead.chunkCount && ahead.starts[s] < end; s++) {
      const from = Math.max(start, ahead.starts[s]);
      const to = Math.min(end, endOf(ahead, s));
      if (from > row) rest.add(row, from);
      there.addFrom(s, from, to);
      row = to;
    }
    if (row < end) rest.add(row, end);
  }

  /** Joins missing pieces, from the given one on, across rows that are there, where that is no slower. */
  private readThrough(first: number): void {
    const { rest } = this;
    const { starts } = rest;
    const lastEnd = endOf(rest, rest.chunkCount - 1);
    let kept = first;
    let keptNs = this.latencyNs(starts[first], endOf(rest, first));
    let sumNs = 0;
    for (let piece = first + 1; piece < rest.chunkCount; piece++) {
      const end = endOf(rest, piece);
      const pieceNs = this.latencyNs(starts[piece], end);
      const joinedNs = this.latencyNs(starts[kept], end);
      if (joinedNs <= keptNs + pieceNs) {
        rest.lengths[kept] = end - starts[kept];
        keptNs = joinedNs;
        continue;
      }
      sumNs += keptNs;
      kept += 1;
      starts[kept] = starts[piece];
      rest.lengths[kept] = end - starts[piece];
      keptNs = pieceNs;
    }
    rest.chunkCount = kept + 1;
    // On a table that is flat somewhere, all of them may be worth joining where no two are.
    if (kept === first || this.latencyNs(starts[first], lastEnd) > sumNs + keptNs) return;
    rest.lengths[first] = lastEnd - starts[first];
    rest.chunkCount = first + 1;
  }

  /** Drops the pieces, from the given one on, that lie within missing ones from `firstMissing` on. */
  private dropReadAgain(firstPresent: number, firstMissing: number): void {
    const { there, rest } = this;
    let missing = firstMissing;
    let kept = firstPresent;
    for (let piece = firstPresent; piece < there.chunkCount; piece++) {
      const start = there.starts[piece];
      while (missing < rest.chunkCount && endOf(rest, missing) <= start) missing++;
      if (missing < rest.chunkCount && rest.starts[missing] <= start) continue;
      there.move(piece, kept);
      kept += 1;
    }
    there.chunkCount = kept;
  }

  private latencyNs(start: number, end: number): number {
    return this.latencies.ns(end - start);
  }
}

function endOf({ starts, lengths }: ChunkPlan, chunk: number): number {
  return starts[chunk] + lengths[chunk];
}
