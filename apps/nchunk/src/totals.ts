import type { Answer, TraceTotals } from "@neuron-chunking/vlm-executor";

/** What the reads of an answer (or of several) came to, all phases together. */
export interface ReadTotals {
  bytesRead: number;
  /** Read before it was known that they are needed, and of these what was. */
  bytesAhead: number;
  bytesAheadUsed: number;
  chunks: number;
  rows: number;
  ioNs: number;
  computeNs: number;
  selectNs: number;
  stallNs: number;
}

export const noReads = (): ReadTotals => ({
  bytesRead: 0,
  bytesAhead: 0,
  bytesAheadUsed: 0,
  chunks: 0,
  rows: 0,
  ioNs: 0,
  computeNs: 0,
  selectNs: 0,
  stallNs: 0,
});

/** Adds the passes of one answer to `sum`. */
export function addReads(sum: ReadTotals, totals: Answer["totals"]): void {
  for (const phase of Object.values<Readonly<TraceTotals>>(totals)) {
    sum.bytesRead += phase.bytesRead;
    sum.bytesAhead += phase.bytesAhead;
    sum.bytesAheadUsed += phase.bytesAheadUsed;
    sum.chunks += phase.chunks;
    sum.rows += phase.rows;
    sum.ioNs += phase.readNs;
    sum.computeNs += phase.computeNs;
    sum.selectNs += phase.selectNs;
    sum.stallNs += phase.stallNs;
  }
}

export const meanChunkRows = ({ rows, chunks }: ReadTotals): number =>
  chunks > 0 ? rows / chunks : 0;
