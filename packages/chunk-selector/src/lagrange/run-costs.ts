import type { LatencyTable } from "@neuron-chunking/latency-model";

/** What a run of rows costs, ns: `T[r]` up to `joinRows`, and from there on `tailNsPerRow` more for each row. */
export interface RunCurve {
  /** From this run length on `T` is a straight line; at most the rows there are. */
  readonly joinRows: number;
  /** `T` by run length, ns, `[>= joinRows + 1]`. */
  readonly latencyNs: Float64Array;
  /** What one more row costs a run of at least `joinRows`, ns. */
  readonly tailNsPerRow: number;
}

/** The latency table in rows of one width: what plans are judged by. */
export class RunCosts implements RunCurve {
  readonly joinRows: number;
  /** Owned by the table. */
  readonly latencyNs: Float64Array;
  readonly tailNsPerRow: number;

  constructor(
    readonly rows: number,
    readonly rowBytes: number,
    readonly table: LatencyTable,
  ) {
    const saturationNs = table.latencyNs(table.saturationBytes);
    const linearFromBytes = Math.max(table.saturationBytes, saturationNs / table.tailNsPerByte);
    // Past that size, not at it: the table may step up to its tail.
    this.joinRows = Math.max(1, Math.min(rows, Math.floor(linearFromBytes / rowBytes) + 1));
    this.latencyNs = table.rowLatencyNs(rowBytes, this.joinRows);
    this.tailNsPerRow = table.tailNsPerByte * rowBytes;
  }

  /** Cost of a run of `length` rows, ns; 0 for none. */
  of(length: number): number {
    const { joinRows, latencyNs } = this;
    if (length <= joinRows) return latencyNs[length];
    return latencyNs[joinRows] + this.tailNsPerRow * (length - joinRows);
  }
}
