import type { ImportanceKeys } from "./importance-keys.js";
import type { PlanBuilder } from "./plan-builder.js";
import { RowSet } from "./row-set.js";

/** Digits by which a radix selection narrows 31-bit keys: high 11 bits, middle 10, low 10. */
const HIGH_SHIFT = 20;
const MIDDLE_SHIFT = 10;
const DIGIT_MASK = 0x3ff;
const HIGH_DIGITS = 1 << 11;

/** Exact selection of the k largest by importance; ties go to the lower row. O(rows), no allocation. */
export class TopkSelection {
  readonly #keys: ImportanceKeys;
  readonly #rows: RowSet;
  readonly #counts = new Uint32Array(HIGH_DIGITS);
  /** Keys that share the pivot's leading digits. */
  readonly #narrowed: Int32Array;

  constructor(keys: ImportanceKeys, maxRows: number) {
    this.#keys = keys;
    this.#rows = new RowSet(maxRows);
    this.#narrowed = new Int32Array(maxRows);
  }

  /** Adds the `count` most important of the first `rows` rows to `plan`, where `1 <= count <= rows`. */
  addLargest(rows: number, count: number, plan: PlanBuilder): void {
    const bits = this.#keys.bits;
    const set = this.#rows;
    // Three rounds of counting digits find the key of the last row taken and its rank among equals.
    const counts = this.#counts;
    let rank = count;
    counts.fill(0);
    for (let row = 0; row < rows; row++) counts[bits[row] >> HIGH_SHIFT]++;
    const high = digitOfRank(counts, HIGH_DIGITS - 1, rank);
    rank -= countAbove(counts, high, HIGH_DIGITS);
    let length = this.#narrow(bits, rows, HIGH_SHIFT, high);

    this.#countDigits(length, MIDDLE_SHIFT);
    const middle = digitOfRank(counts, DIGIT_MASK, rank);
    rank -= countAbove(counts, middle, DIGIT_MASK + 1);
    const prefix = (high << (HIGH_SHIFT - MIDDLE_SHIFT)) | middle;
    length = this.#narrow(this.#narrowed, length, MIDDLE_SHIFT, prefix);

    this.#countDigits(length, 0);
    const low = digitOfRank(counts, DIGIT_MASK, rank);
    rank -= countAbove(counts, low, DIGIT_MASK + 1);
    const pivot = (prefix << MIDDLE_SHIFT) | low;

    // Equals up to the last one taken are in; after it, only what is larger.
    const cut = rank === counts[low] ? rows : endOfOccurrence(bits, pivot, rank);
    set.clear(rows);
    set.addAtLeast(bits, 0, cut, pivot);
    set.addAtLeast(bits, cut, rows, pivot + 1);
    set.appendRuns(rows, plan);
  }

  /** Keeps the keys whose bits from `shift` up equal `prefix`; `keys` may be the kept ones themselves. */
  #narrow(keys: Int32Array, length: number, shift: number, prefix: number): number {
    const narrowed = this.#narrowed;
    let kept = 0;
    for (let index = 0; index < length; index++) {
      const key = keys[index];
      if (key >> shift === prefix) narrowed[kept++] = key;
    }
    return kept;
  }

  #countDigits(length: number, shift: number): void {
    const counts = this.#counts;
    const narrowed = this.#narrowed;
    counts.fill(0, 0, DIGIT_MASK + 1);
    for (let index = 0; index < length; index++) counts[(narrowed[index] >> shift) & DIGIT_MASK]++;
  }
}

/** The digit that holds the key of this rank (1 = largest), counting down from `digit`. */
function digitOfRank(counts: Uint32Array, digit: number, rank: number): number {
  for (let seen = counts[digit]; seen < rank; seen += counts[digit]) digit--;
  return digit;
}

function countAbove(counts: Uint32Array, digit: number, end: number): number {
  let above = 0;
  for (let higher = digit + 1; higher < end; higher++) above += counts[higher];
  return above;
}

/** One past the row of the `occurrence`-th key equal to `key`, which exists. */
function endOfOccurrence(keys: Int32Array, key: number, occurrence: number): number {
  let row = 0;
  for (let seen = 0; seen < occurrence; row++) if (keys[row] === key) seen++;
  return row;
}
