import type { LatencyTable } from "@neuron-chunking/latency-model";

/** Distances whose bounds are computed exactly; longer ones are bounded by adding up. Keeps set-up O(rows). */
const MAX_EXACT_DISTANCE = 1024;

/** Two bounds closer than this, relative to the larger, are one: the table is a straight line. */
const LINE_TOLERANCE = 1e-9;

/**
 * What a run of rows costs, ns: `T[r]` up to `joinRows`, and from there on `tailNsPerRow` more for each row. With the bounds
 * on how `T` grows that let the dynamic program drop candidates early without losing any optimum.
 */
export class RunCosts {
  /** From this run length on `T` is a straight line; at most `rows`. */
  readonly joinRows: number;
  /** `T` by run length, ns, `[>= joinRows + 1]`. Owned by the table. */
  readonly latencyNs: Float64Array;
  /** What one more row costs a run of at least `joinRows`, ns. */
  readonly tailNsPerRow: number;
  /** `[joinRows + 1]`: least of `T[l + d] - T[l]` over all lengths `l >= 1`, or a bound below it. */
  readonly leastGrowthNs: Float64Array;
  /** `[joinRows + 1]`: most of `T[l + d] - T[l]` over all lengths `l >= 1`, or a bound above it. */
  readonly mostGrowthNs: Float64Array;
  /** A row worth less than this, times the price, is no end of any run: leaving it out always pays. */
  readonly neverEndNs: number;
  /** A row worth more than this, times the price, belongs to the run beside it, whatever lies beyond: see `PricedPass`. */
  readonly alwaysJoinNs: number;
  /** `T` is one straight line up to `joinRows` and another from there: the oldest candidate start is the best. */
  readonly isTwoLines: boolean;

  constructor(
    readonly rows: number,
    readonly rowBytes: number,
    readonly table: LatencyTable,
  ) {
    const tailNs = table.tailNsPerByte * rowBytes;
    const saturationNs = table.latencyNs(table.saturationBytes);
    const linearFromBytes = Math.max(table.saturationBytes, saturationNs / table.tailNsPerByte);
    // Past that size, not at it: the table may step up to its tail.
    this.joinRows = Math.max(1, Math.min(rows, Math.floor(linearFromBytes / rowBytes) + 1));
    this.tailNsPerRow = tailNs;
    this.latencyNs = table.rowLatencyNs(rowBytes, this.joinRows);
    this.leastGrowthNs = new Float64Array(this.joinRows + 1);
    this.mostGrowthNs = new Float64Array(this.joinRows + 1);
    this.#boundGrowth();
    this.neverEndNs = Math.min(this.leastGrowthNs[1], this.latencyNs[1]);
    this.alwaysJoinNs = this.mostGrowthNs[1] + this.#mostSplitGainNs();
    this.isTwoLines = this.#isTwoLines();
  }

  /** Cost of a run of `length` rows, ns; 0 for none. */
  of(length: number): number {
    const { joinRows, latencyNs } = this;
    if (length <= joinRows) return latencyNs[length];
    return latencyNs[joinRows] + this.tailNsPerRow * (length - joinRows);
  }

  #boundGrowth(): void {
    const { joinRows, leastGrowthNs: least, mostGrowthNs: most } = this;
    const exact = Math.min(joinRows, MAX_EXACT_DISTANCE);
    for (let distance = 1; distance <= exact; distance++) {
      least[distance] = most[distance] = this.tailNsPerRow * distance;
      for (let length = 1; length < joinRows; length++) {
        const growthNs = this.of(length + distance) - this.latencyNs[length];
        if (growthNs < least[distance]) least[distance] = growthNs;
        if (growthNs > most[distance]) most[distance] = growthNs;
      }
    }
    for (let distance = exact + 1; distance <= joinRows; distance++) {
      least[distance] = least[distance - exact] + least[exact];
      most[distance] = most[distance - exact] + most[exact];
    }
  }

  /** Most that two reads save over one of all their rows; 0 where one long read is never slower. */
  #mostSplitGainNs(): number {
    let gainNs = 0;
    for (let length = 1; length <= this.joinRows; length++) {
      gainNs = Math.max(gainNs, this.mostGrowthNs[length] - this.latencyNs[length]);
    }
    return gainNs;
  }

  /** Whether `T` grows along one line before `joinRows`, and nowhere slower than along it. */
  #isTwoLines(): boolean {
    const { joinRows, latencyNs, leastGrowthNs } = this;
    if (joinRows < 3) return true;
    const slopeNs = (latencyNs[joinRows - 1] - latencyNs[1]) / (joinRows - 2);
    for (let length = 2; length < joinRows; length++) {
      const lineNs = latencyNs[1] + slopeNs * (length - 1);
      const toleranceNs = LINE_TOLERANCE * lineNs;
      if (Math.abs(latencyNs[length] - lineNs) > toleranceNs) return false;
      if (leastGrowthNs[length - 1] < slopeNs * (length - 1) - toleranceNs) return false;
    }
    return true;
  }
}
