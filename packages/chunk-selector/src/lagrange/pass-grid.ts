import { fitTwoLines } from "./fitted-curve.js";
import { PassCurve } from "./pass-curve.js";
import type { RunCosts, RunCurve } from "./run-costs.js";

/** Rows narrower than this are taken together: devices read whole blocks. */
const CELL_BYTES = 4096;

/**
 * Cells times the cells of a saturating run up to which a table is followed with all its kinks, about 0.1 ms a pass; and
 * where an answer may take some milliseconds.
 */
const MOST_STATES = 60_000;
const MOST_THOROUGH_STATES = 1_000_000;

/** A fit further off than this is not used: the table has features that are more than noise. */
const MOST_FIT_ERROR = 0.25;

/** What passes go by: the rows themselves and the table itself, or cells of several rows and two lines. */
export interface PassGrid {
  readonly cellRows: number;
  readonly cells: number;
  /** By run length in cells. */
  readonly curve: PassCurve;
  /** Whether an optimum by this grid is one by rows and table, so that it bounds every plan. */
  readonly isExact: boolean;
}

/** How closely a grid follows rows and table. */
export type Closeness =
  /** Every row and every kink of the table, whatever that takes. */
  | "exact"
  /** Every row; two lines where following the table takes long. For a price, whose plan is to be optimal. */
  | "rows"
  /** Cells, and two lines where following the table takes long. For searches, whose plans are repaired anyway. */
  | "cells"
  /** The same, but two lines only where following the table takes very long. */
  | "thorough-cells";

/** The grid of that closeness. What it leaves out, `settleEnds` puts right at each of its optima. */
export function createGrid(costs: RunCosts, closeness: Closeness): PassGrid {
  const byBytes = Math.max(1, Math.floor(CELL_BYTES / costs.rowBytes));
  const cellRows = closeness === "exact" || closeness === "rows" ? 1 : byBytes;
  const cells = Math.ceil(costs.rows / cellRows);
  const byCells = inCells(costs, cellRows);
  const curve = new PassCurve(byCells);
  const isExact = cellRows === 1;
  const mostStates = closeness === "thorough-cells" ? MOST_THOROUGH_STATES : MOST_STATES;
  const isQuick = curve.isTwoLines || cells * curve.joinRows <= mostStates;
  if (closeness === "exact" || isQuick) return { cellRows, cells, curve, isExact };
  const fit = fitTwoLines(byCells);
  if (fit.worstError > MOST_FIT_ERROR) return { cellRows, cells, curve, isExact };
  return { cellRows, cells, curve: new PassCurve(fit), isExact: false };
}

function inCells(costs: RunCosts, cellRows: number): RunCurve {
  if (cellRows === 1) return costs;
  const joinRows = Math.ceil(costs.joinRows / cellRows);
  const latencyNs = Float64Array.from({ length: joinRows + 1 }, (_, cells) =>
    costs.of(cells * cellRows),
  );
  return { joinRows, latencyNs, tailNsPerRow: cellRows * costs.tailNsPerRow };
}
