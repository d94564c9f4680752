import type { LatencyTable } from "@neuron-chunking/latency-model";

/** `T` by the number of rows in one read, for rows of one width at a time. */
export class RowLatencies {
  private latencies: Float64Array = new Float64Array(1);
  private rowBytes = 1;

  constructor(private readonly table: LatencyTable) {}

  /** The width of the rows from now on. */
  setRowBytes(rowBytes: number): void {
    this.rowBytes = rowBytes;
    const saturationRows = Math.floor(this.table.saturationBytes / rowBytes);
    this.latencies = this.table.rowLatencyNs(rowBytes, saturationRows);
  }

  /** Modelled time to read so many rows in one piece, ns; never falls with their number. */
  ns(rows: number): number {
    const { latencies, rowBytes } = this;
    return rows < latencies.length ? latencies[rows] : this.table.latencyNs(rows * rowBytes);
  }
}
