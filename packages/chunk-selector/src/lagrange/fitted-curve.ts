import type { RunCurve } from "./run-costs.js";

/** Run lengths tried as the place where the lines meet. */
const MAX_BREAKPOINTS = 64;

/** A run curve of two lines up to `joinRows`, and how well it follows the table. */
export interface FittedCurve extends RunCurve {
  /** Largest difference to the table, relative to it. */
  readonly worstError: number;
}

/**
 * The table between a run of one row and one of `joinRows` as two lines that meet at one of its own points: the one of least
 * squared relative error. Measured tables carry noise of several percent, whose every kink would keep candidates
 * alive in the dynamic program; the plans it costs are worse by a fraction of a percent.
 */
export function fitTwoLines(costs: RunCurve): FittedCurve {
  const { joinRows, latencyNs, tailNsPerRow } = costs;
  const step = Math.max(1, Math.floor(joinRows / MAX_BREAKPOINTS));
  let best = joinRows;
  let leastError = Infinity;
  for (let middle = 1; middle <= joinRows; middle += step) {
    let error = 0;
    for (let length = 1; length <= joinRows; length += step) {
      error += (throughPoints(costs, middle, length) / latencyNs[length] - 1) ** 2;
    }
    if (error >= leastError) continue;
    leastError = error;
    best = middle;
  }
  const fitted = new Float64Array(joinRows + 1);
  let worstError = 0;
  for (let length = 1; length <= joinRows; length++) {
    fitted[length] = throughPoints(costs, best, length);
    worstError = Math.max(worstError, Math.abs(fitted[length] / latencyNs[length] - 1));
  }
  return { joinRows, latencyNs: fitted, tailNsPerRow, worstError };
}

/** At `length` on the lines through the table's points at 1, `middle` and `joinRows` rows. */
function throughPoints({ latencyNs, joinRows }: RunCurve, middle: number, length: number): number {
  const [from, to] = length <= middle ? [1, middle] : [middle, joinRows];
  if (from === to) return latencyNs[to];
  const share = (length - from) / (to - from);
  return latencyNs[from] + share * (latencyNs[to] - latencyNs[from]);
}
