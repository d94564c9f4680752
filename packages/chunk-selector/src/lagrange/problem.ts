import type { PassCurve } from "./pass-curve.js";
import type { RunCosts } from "./run-costs.js";
import type { ShapeState, WarmStarts } from "./shape-cache.js";

/** What is selected from: loaded once per selection, shared by all parts of the solver. */
export class Problem {
  rows = 0;
  /** `[>= rows]`, the caller's. */
  importance: Float32Array = new Float32Array(0);
  /** `[rows + 1]`: sums of the importance of the rows before each. */
  readonly prefix: Float64Array;
  /** What plans are judged by. This and what follows: undefined before the first `load`. */
  costs!: RunCosts;
  /** What passes go by: the same, or a fit of it. */
  curve!: PassCurve;
  /** No plan costs less than this times what the curve says. */
  leastRatio!: number;
  warm!: WarmStarts;

  constructor(maxRows: number) {
    this.prefix = new Float64Array(maxRows + 1);
  }

  /** Sum of all importance. */
  get total(): number {
    return this.prefix[this.rows];
  }

  /**
   * @param importance `[>= rows]`, checked; must not change while the problem is solved.
   * @param shape of `rows` rows.
   */
  load(importance: Float32Array, rows: number, shape: ShapeState): void {
    const { prefix } = this;
    let sum = 0;
    for (let row = 0; row < rows; row++) prefix[row + 1] = sum += importance[row];
    this.importance = importance;
    this.rows = rows;
    this.costs = shape.costs;
    this.curve = shape.curve;
    this.leastRatio = shape.leastRatio;
    this.warm = shape.warm;
  }
}
