import { requireInteger } from "./errors.js";
import { ImportanceKeys } from "./importance-keys.js";

/** As in `TopkSelection`: 31-bit keys by their high 11, middle 10 and low 10 bits. */
const SHIFTS = [20, 10, 0] as const;
const HIGH_DIGITS = 1 << 11;
const LOW_DIGITS = 1 << 10;

/**
 * Sum of the `budgetRows` largest importances: what top-k keeps. Allocates: where it is needed for every input, ask a
 * `lagrange` selector for `matchTopkRows` instead.
 *
 * @param importance `[rows]`, finite and at least 0.
 * @throws ChunkSelectorError `INVALID_IMPORTANCE` or `INVALID_REQUEST`.
 */
export function topkImportance(importance: Float32Array, rows: number, budgetRows: number): number {
  requireInteger(rows, "rows", 0);
  requireInteger(budgetRows, "budgetRows", 0);
  const keys = new ImportanceKeys(rows);
  keys.load(importance, rows);
  const largest = new TopkImportance(keys, rows);
  largest.ofCount(rows, Math.min(rows, budgetRows));
  return largest.importance;
}

/** How much importance the largest rows hold, and how many of them hold so much. O(rows), no allocation. */
export class TopkImportance {
  /** Of the last question: how many of the largest rows, and their importance. */
  count = 0;
  importance = 0;
  readonly #keys: ImportanceKeys;
  readonly #counts = new Uint32Array(HIGH_DIGITS);
  readonly #sums = new Float64Array(HIGH_DIGITS);
  readonly #narrowed: Float32Array;
  readonly #narrowedBits: Int32Array;

  constructor(keys: ImportanceKeys, maxRows: number) {
    this.#keys = keys;
    this.#narrowed = new Float32Array(maxRows);
    this.#narrowedBits = new Int32Array(this.#narrowed.buffer);
  }

  /** The `count` largest of the first `rows` rows, where `0 <= count <= rows`. */
  ofCount(rows: number, count: number): void {
    this.#descend(rows, count, true);
  }

  /** The fewest of the largest of the first `rows` rows that reach `target`; all where they do not. */
  reaching(rows: number, target: number): void {
    this.#descend(rows, target, false);
  }

  #descend(rows: number, wanted: number, byCount: boolean): void {
    this.count = 0;
    this.importance = 0;
    if (wanted <= 0) return;
    let bits = this.#keys.bits;
    let values = this.#keys.values;
    let length = rows;
    let pivot = 0;
    for (const shift of SHIFTS) {
      const digits = shift === SHIFTS[0] ? HIGH_DIGITS : LOW_DIGITS;
      this.#tally(bits, values, length, shift, digits);
      const digit = this.#takeAbove(digits, wanted, byCount);
      pivot = pivot * LOW_DIGITS + digit;
      length = this.#narrow(bits, values, length, shift, pivot);
      bits = this.#narrowedBits;
      values = this.#narrowed;
    }
    // All that is left is equal.
    const value = values[0];
    const missing = byCount ? wanted - this.count : Math.ceil((wanted - this.importance) / value);
    const taken = Math.min(length, Math.max(0, missing));
    this.count += taken;
    this.importance += taken * value;
  }

  #tally(
    bits: Int32Array,
    values: Float32Array,
    length: number,
    shift: number,
    digits: number,
  ): void {
    const counts = this.#counts;
    const sums = this.#sums;
    counts.fill(0, 0, digits);
    sums.fill(0, 0, digits);
    const mask = digits - 1;
    for (let index = 0; index < length; index++) {
      const digit = (bits[index] >> shift) & mask;
      counts[digit]++;
      sums[digit] += values[index];
    }
  }

  /** Takes whole digits from the largest down; returns the first that is more than is wanted, or the least. */
  #takeAbove(digits: number, wanted: number, byCount: boolean): number {
    const counts = this.#counts;
    const sums = this.#sums;
    let least = 0;
    for (let digit = digits - 1; digit >= 0; digit--) {
      if (counts[digit] === 0) continue;
      const reached = byCount ? this.count + counts[digit] : this.importance + sums[digit];
      if (reached >= wanted) return digit;
      least = digit;
      this.count += counts[digit];
      this.importance += sums[digit];
    }
    // Rounding alone fell short: give the least back, to be looked at more closely.
    this.count -= counts[least];
    this.importance -= sums[least];
    return least;
  }

  #narrow(
    bits: Int32Array,
    values: Float32Array,
    length: number,
    shift: number,
    prefix: number,
  ): number {
    let kept = 0;
    for (let index = 0; index < length; index++) {
      if (bits[index] >> shift === prefix) this.#narrowed[kept++] = values[index];
    }
    return kept;
  }
}
