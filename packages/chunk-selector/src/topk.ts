import type { ImportanceKeys } from "./importance-keys.js";
import type { PlanBuilder } from "./plan-builder.js";

/** Widths of the digits by which a radix selection narrows 31-bit keys: high 11, middle 10, low 10. */
const HIGH_SHIFT = 20;
const MIDDLE_SHIFT = 10;
const DIGIT_MASK = 0x3ff;
const HIGH_DIGITS = 1 << 11;

/** Exact selection of the k largest by importance; ties go to the lower row. O(rows), no allocation. */
export class TopkSelection {
  readonly #keys: ImportanceKeys;
  readonly #counts = new Uint32Array(HIGH_DIGITS);

  constructor(keys: ImportanceKeys) {
    this.#keys = keys;
  }

  /** Adds the `count` most important of the first `rows` rows to `plan`, where `1 <= count <= rows`. */
  addLargest(rows: number, count: number, plan: PlanBuilder): void {
    const bits = this.#keys.bits;
    const pivot = this.pivotBits(rows, count);
    let ties = count;
    for (let row = 0; row < rows; row++) if (bits[row] > pivot) ties--;
    let row = 0;
    while (row < rows) {
      const key = bits[row];
      if (key < pivot || (key === pivot && ties === 0)) {
        row++;
        continue;
      }
      const start = row;
      while (row < rows && (bits[row] > pivot || (bits[row] === pivot && ties > 0))) {
        if (bits[row] === pivot) ties--;
        row++;
      }
      plan.add(start, row - start);
    }
  }

  /** Bits of the `count`-th largest key, by three rounds of counting digits from the top. */
  pivotBits(rows: number, count: number): number {
    const bits = this.#keys.bits;
    const counts = this.#counts;
    counts.fill(0);
    for (let row = 0; row < rows; row++) counts[bits[row] >>> HIGH_SHIFT]++;
    let rank = count;
    const high = digitOfRank(counts, rank);
    rank -= countAbove(counts, high);

    counts.fill(0);
    for (let row = 0; row < rows; row++) {
      if (bits[row] >>> HIGH_SHIFT === high) counts[(bits[row] >>> MIDDLE_SHIFT) & DIGIT_MASK]++;
    }
    const middle = digitOfRank(counts, rank);
    rank -= countAbove(counts, middle);
    const prefix = (high << (HIGH_SHIFT - MIDDLE_SHIFT)) | middle;

    counts.fill(0);
    for (let row = 0; row < rows; row++) {
      if (bits[row] >>> MIDDLE_SHIFT === prefix) counts[bits[row] & DIGIT_MASK]++;
    }
    return ((prefix << MIDDLE_SHIFT) | digitOfRank(counts, rank)) >>> 0;
  }
}

/** The digit that holds the key of this rank (1 = largest), scanning from the highest digit. */
function digitOfRank(counts: Uint32Array, rank: number): number {
  let digit = counts.length;
  let seen = 0;
  while (seen < rank) seen += counts[--digit];
  return digit;
}

function countAbove(counts: Uint32Array, digit: number): number {
  let above = 0;
  for (let higher = digit + 1; higher < counts.length; higher++) above += counts[higher];
  return above;
}
