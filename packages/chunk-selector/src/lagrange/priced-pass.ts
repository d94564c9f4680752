import type { PassCurve } from "./pass-curve.js";
import type { RunList } from "./run-list.js";

/** In `#cameFrom`: the row before is not selected. */
const UNSELECTED = -1;

/**
 * The plan that maximises `sum(v) - price * L(plan)`, exactly, for any latency table.
 *
 * With `P` the prefix sums of the importance, rows `[0, j)` are worth at most
 *
 * - `F(j)`, where row `j - 1` is not selected (or `j = 0`): `F(j + 1) = max(F(j), G(j))`;
 * - `G(j)`, where a run ends with row `j - 1`: `G(j) = P[j] + max over i < j of F(i) - P[i] - price * T[j - i]`.
 *
 * A run must be followed by an unselected row, so a plan's runs are maximal, as `L` counts them. This is the program
 * over (position, capped run length) of PAPER.md's last section, written by run starts instead of lengths:
 * starts older than `joinRows` rows are one state (`T` is a line there, so the best of them stays the best), of
 * the younger ones only those that can still win are kept. `F(i) - P[i]` of a younger start must beat an older one
 * by the least that their costs can come to differ, and the other way round. That leaves two or three on usual tables, and
 * on a table of two lines exactly the monotone queue whose oldest entry is the best, so one look per row is enough.
 *
 * Two more cuts lose no optimum. A row worth less than `neverEndNs` neither starts nor ends a run (leaving it out pays), and a run does not end before a row worth more than `alwaysJoinNs` (taking it in pays, even where
 * that merges two runs). Nor does one start after such a row.
 *
 * Cost: O(rows * joinRows) at worst, O(rows) for a table of two lines, about 6 ns per row in practice; no allocation.
 */
export class PricedPass {
  /** What the last plan is worth, `sum(v) - price * L` with the curve's `L`. */
  value = 0;
  /** `[rows]`: start of the run that ends before row `j` where taking it gives `F(j + 1)`, or `UNSELECTED`. */
  readonly #cameFrom: Int32Array;
  /** Candidate starts, oldest first, and `F(i) - P[i]` of each. */
  readonly #starts: Int32Array;
  readonly #keys: Float64Array;
  /** `price * T` by run length. */
  readonly #prices: Float64Array;

  constructor(maxRows: number) {
    this.#cameFrom = new Int32Array(maxRows);
    this.#starts = new Int32Array(maxRows);
    this.#keys = new Float64Array(maxRows);
    this.#prices = new Float64Array(maxRows + 1);
  }

  /**
   * Fills `plan` with runs of rows, or of whatever else `importance` counts by; its sums are left as they are.
   *
   * @param importance `[>= rows]`, finite and at least 0.
   * @param rows at least 1.
   * @param curve what runs of them cost.
   * @param price importance per ns, above 0.
   */
  run(
    importance: Float64Array,
    rows: number,
    curve: PassCurve,
    price: number,
    plan: RunList,
  ): void {
    const { joinRows, latencyNs, isTwoLines } = curve;
    const cameFrom = this.#cameFrom;
    const starts = this.#starts;
    const keys = this.#keys;
    const prices = this.#prices;
    for (let length = 0; length <= joinRows; length++) prices[length] = price * latencyNs[length];
    const tailPrice = price * curve.tailNsPerRow;
    const leaveOut = price * curve.neverEndNs;
    const takeIn = price * curve.alwaysJoinNs;

    let head = 0; // candidates are starts[head .. tail - 1]
    let tail = 0;
    let unselected = 0; // F(j)
    let ending = -Infinity; // G(j), and the start of its run
    let endingStart = 0;
    let long = -Infinity; // best of the runs of at least joinRows rows up to here, and its start
    let longStart = 0;
    let sum = 0; // P[j]
    let before = 0; // importance of row j - 1
    let here = importance[0];
    for (let row = 0; row < rows; row++) {
      const isWorthEnding = here >= leaveOut;
      if (isWorthEnding && before <= takeIn) {
        tail = this.#admit(curve, price, row, unselected - sum, head, tail);
      }
      sum += here;
      long += here - tailPrice;
      if (tail > head && row + 1 - starts[head] >= joinRows) {
        const grown = keys[head] + sum - prices[joinRows];
        if (grown > long) {
          long = grown;
          longStart = starts[head];
        }
        head++;
      }
      if (ending > unselected) {
        unselected = ending;
        cameFrom[row] = endingStart;
      } else {
        cameFrom[row] = UNSELECTED;
      }
      const after = row + 1 < rows ? importance[row + 1] : 0;
      ending = -Infinity;
      if (isWorthEnding && after <= takeIn) {
        const last = isTwoLines && tail > head ? head + 1 : tail;
        for (let slot = head; slot < last; slot++) {
          const short = keys[slot] - prices[row + 1 - starts[slot]];
          if (short > ending) {
            ending = short;
            endingStart = starts[slot];
          }
        }
        ending += sum;
        if (long > ending) {
          ending = long;
          endingStart = longStart;
        }
      }
      before = here;
      here = after;
    }
    this.value = Math.max(unselected, ending);
    this.#trace(rows, ending > unselected ? endingStart : UNSELECTED, plan);
  }

  /**
   * Adds a start to the candidates `starts[head .. tail - 1]`, unless one of them is better at every length, and drops those
   * that it is better than.
   *
   * @returns the new `tail`.
   */
  #admit(
    { leastGrowthNs, mostGrowthNs }: PassCurve,
    price: number,
    row: number,
    key: number,
    head: number,
    tail: number,
  ): number {
    const starts = this.#starts;
    const keys = this.#keys;
    while (tail > head) {
      const distance = row - starts[tail - 1];
      const older = keys[tail - 1];
      if (older - price * leastGrowthNs[distance] > key) {
        if (key <= older - price * mostGrowthNs[distance]) return tail;
        break;
      }
      tail--;
    }
    starts[tail] = row;
    keys[tail] = key;
    return tail + 1;
  }

  /** Walks back over the decisions; runs come last first, so they are written from the arrays' ends. */
  #trace(rows: number, lastStart: number, plan: RunList): void {
    const { starts, ends } = plan;
    const cameFrom = this.#cameFrom;
    const capacity = starts.length;
    let slot = capacity;
    let row = rows;
    if (lastStart !== UNSELECTED) {
      starts[--slot] = lastStart;
      ends[slot] = rows;
      row = lastStart;
    }
    while (row > 0) {
      const start = cameFrom[--row];
      if (start === UNSELECTED) continue;
      starts[--slot] = start;
      ends[slot] = row;
      row = start;
    }
    starts.copyWithin(0, slot);
    ends.copyWithin(0, slot);
    plan.count = capacity - slot;
  }
}
