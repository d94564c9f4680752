import type { PlanBuilder } from "./plan-builder.js";

const ALL_BITS = -1;

/** A set of rows, 32 to a word. */
export class RowSet {
  readonly #words: Int32Array;

  constructor(maxRows: number) {
    // One word more, so that the scan for a run's end always meets a clear bit.
    this.#words = new Int32Array((maxRows >>> 5) + 2);
  }

  clear(rows: number): void {
    this.#words.fill(0, 0, (rows >>> 5) + 2);
  }

  /** Whether any of `length >= 1` rows from `start` is in the set. */
  overlaps(start: number, length: number): boolean {
    const words = this.#words;
    const last = start + length - 1;
    const firstWord = start >>> 5;
    const lastWord = last >>> 5;
    const firstMask = ALL_BITS << (start & 31);
    const lastMask = ALL_BITS >>> (31 - (last & 31));
    if (firstWord === lastWord) return (words[firstWord] & firstMask & lastMask) !== 0;
    if ((words[firstWord] & firstMask) !== 0 || (words[lastWord] & lastMask) !== 0) return true;
    for (let word = firstWord + 1; word < lastWord; word++) if (words[word] !== 0) return true;
    return false;
  }

  /** Adds `length >= 1` rows from `start`. */
  add(start: number, length: number): void {
    const words = this.#words;
    const last = start + length - 1;
    const firstWord = start >>> 5;
    const lastWord = last >>> 5;
    const firstMask = ALL_BITS << (start & 31);
    const lastMask = ALL_BITS >>> (31 - (last & 31));
    if (firstWord === lastWord) {
      words[firstWord] |= firstMask & lastMask;
      return;
    }
    words[firstWord] |= firstMask;
    words[lastWord] |= lastMask;
    for (let word = firstWord + 1; word < lastWord; word++) words[word] = ALL_BITS;
  }

  /**
   * Adds the rows `from .. to - 1` whose key is at least `least`. Without a branch on the key, because which
   * rows are kept is as good as random. Keys are in `[0, 2^31 - 1)`, `least` in `[0, 2^31 - 1]`.
   */
  addAtLeast(keys: Int32Array, from: number, to: number, least: number): void {
    const words = this.#words;
    const below = least - 1;
    let row = from;
    while (row < to) {
      const index = row >>> 5;
      const end = Math.min(to, (index + 1) << 5);
      let word = 0;
      for (; row < end; row++) word |= ((below - keys[row]) >>> 31) << (row & 31);
      words[index] |= word;
    }
  }

  /** Adds the maximal runs among the first `rows` rows to `plan`. */
  appendRuns(rows: number, plan: PlanBuilder): void {
    let row = this.#nextWith(0, rows, 0);
    while (row < rows) {
      const end = Math.min(rows, this.#nextWith(row, rows, ALL_BITS));
      plan.add(row, end - row);
      row = this.#nextWith(end, rows, 0);
    }
  }

  /** First row from `row` on that is set (`flip` 0) or clear (`flip` all bits); `rows` or more if none. */
  #nextWith(row: number, rows: number, flip: number): number {
    while (row < rows) {
      const ahead = (this.#words[row >>> 5] ^ flip) >>> (row & 31);
      if (ahead !== 0) return row + (31 - Math.clz32(ahead & -ahead));
      row = (row | 31) + 1;
    }
    return row;
  }
}
