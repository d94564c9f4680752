import type { PassGrid } from "./pass-grid.js";
import type { RunCosts } from "./run-costs.js";
import type { ShapeState, WarmStarts } from "./shape-cache.js";

/** What is selected from: loaded once per selection, shared by all parts of the solver. */
export class Problem {
  rows = 0;
  /** `[rows + 1]`: sums of the importance of the rows before each. */
  readonly prefix: Float64Array;
  /** `[grid.cells]`: importance of the cells that passes go by. */
  readonly cellImportance: Float64Array;
  /** What plans are judged by. This and what follows: undefined before the first `load`. */
  costs!: RunCosts;
  grid!: PassGrid;
  warm!: WarmStarts;

  constructor(maxRows: number) {
    this.prefix = new Float64Array(maxRows + 1);
    this.cellImportance = new Float64Array(maxRows);
  }

  /** Sum of all importance. */
  get total(): number {
    return this.prefix[this.rows];
  }

  /**
   * @param importance `[rows]`.
   * @param shape of `rows` rows.
   * @returns whether every importance is finite and at least 0; if not, nothing may be asked.
   */
  load(importance: Float32Array, rows: number, { costs, grid, warm }: ShapeState): boolean {
    const { prefix, cellImportance } = this;
    let sum = 0;
    let isValid = true;
    for (let row = 0; row < rows; row++) {
      const here = importance[row];
      // False for NaN too.
      if (!(here >= 0)) isValid = false;
      cellImportance[row] = here;
      prefix[row + 1] = sum += here;
    }
    this.rows = rows;
    this.costs = costs;
    this.grid = grid;
    this.warm = warm;
    if (grid.cellRows > 1) this.#fillCells();
    return isValid && sum < Infinity;
  }

  #fillCells(): void {
    const { cellImportance, prefix, rows, grid } = this;
    let from = 0;
    for (let cell = 0; cell < grid.cells; cell++) {
      const to = Math.min(rows, from + grid.cellRows);
      cellImportance[cell] = prefix[to] - prefix[from];
      from = to;
    }
  }
}
