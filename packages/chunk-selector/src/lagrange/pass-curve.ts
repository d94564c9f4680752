import type { RunCurve } from "./run-costs.js";

/** Distances whose bounds are computed exactly; longer ones are bounded by adding up. Keeps set-up O(rows). */
const MAX_EXACT_DISTANCE = 1024;

/** Two values closer than this, relative to the larger, are one: the curve is a straight line. */
const LINE_TOLERANCE = 1e-9;

/** A run curve with bounds on how it grows, by which `PricedPass` drops candidates without losing any optimum. */
export class PassCurve implements RunCurve {
  readonly joinRows: number;
  readonly latencyNs: Float64Array;
  readonly tailNsPerRow: number;
  /** `[joinRows + 1]`: least of `T[l + d] - T[l]` over all lengths `l >= 1`, or a bound below it. */
  readonly leastGrowthNs: Float64Array;
  /** `[joinRows + 1]`: most of `T[l + d] - T[l]` over all lengths `l >= 1`, or a bound above it. */
  readonly mostGrowthNs: Float64Array;
  /** A row worth less than this, times the price, is no end of any run: leaving it out always pays. */
  readonly neverEndNs: number;
  /** A row worth more than this, times the price, belongs to the run beside it, whatever lies beyond. */
  readonly alwaysJoinNs: number;
  /** One line up to `joinRows` and another from there: the oldest candidate start is always the best. */
  readonly isTwoLines: boolean;

  constructor(curve: RunCurve) {
    this.joinRows = curve.joinRows;
    this.latencyNs = curve.latencyNs;
    this.tailNsPerRow = curve.tailNsPerRow;
    this.leastGrowthNs = new Float64Array(this.joinRows + 1);
    this.mostGrowthNs = new Float64Array(this.joinRows + 1);
    this.#boundGrowth();
    this.neverEndNs = Math.min(this.leastGrowthNs[1], this.latencyNs[1]);
    this.alwaysJoinNs = this.mostGrowthNs[1] + this.#mostSplitGainNs();
    this.isTwoLines = this.#isTwoLines();
  }

  #boundGrowth(): void {
    const { joinRows, latencyNs, tailNsPerRow, leastGrowthNs: least, mostGrowthNs: most } = this;
    const exact = Math.min(joinRows, MAX_EXACT_DISTANCE);
    for (let distance = 1; distance <= exact; distance++) {
      let low = tailNsPerRow * distance;
      let high = low;
      for (let length = 1; length < joinRows; length++) {
        const past = Math.max(0, length + distance - joinRows);
        const grownNs = latencyNs[length + distance - past] + past * tailNsPerRow;
        const growthNs = grownNs - latencyNs[length];
        if (growthNs < low) low = growthNs;
        if (growthNs > high) high = growthNs;
      }
      least[distance] = low;
      most[distance] = high;
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
