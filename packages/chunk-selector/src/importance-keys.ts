import { ChunkSelectorError, requireLength } from "./errors.js";

/** Bits of the largest finite number; those of NaN and of infinity are larger, those of negatives negative. */
const LARGEST_FINITE_BITS = 0x7f7f_ffff;
const NEGATIVE_ZERO_BITS = 0x8000_0000 | 0;

/**
 * A private copy of the importance in which `-0` is `+0`, seen as numbers and as bits: for non-negative
 * single-precision numbers the order of the bits is the order of the numbers.
 */
export class ImportanceKeys {
  /** `[maxRows]`; the first `rows` entries are the importance. */
  readonly values: Float32Array;
  /** The same memory as bits, each in `[0, 0x7f7fffff]` once loaded. */
  readonly bits: Int32Array;

  constructor(maxRows: number) {
    this.values = new Float32Array(maxRows);
    this.bits = new Int32Array(this.values.buffer);
  }

  /**
   * Copies and checks `[rows]` importances.
   * @throws ChunkSelectorError `INVALID_IMPORTANCE` on NaN, an infinity or a negative number.
   */
  load(importance: Float32Array, rows: number): void {
    requireLength(importance.length, rows, "importance", "rows");
    this.values.set(importance);
    const bits = this.bits;
    let outside = 0;
    for (let row = 0; row < rows; row++) outside |= bits[row] | (LARGEST_FINITE_BITS - bits[row]);
    if (outside < 0) this.#clearNegativeZeros(importance, rows);
  }

  #clearNegativeZeros(importance: Float32Array, rows: number): void {
    const bits = this.bits;
    for (let row = 0; row < rows; row++) {
      if (bits[row] >= 0 && bits[row] <= LARGEST_FINITE_BITS) continue;
      if (bits[row] !== NEGATIVE_ZERO_BITS) throw importanceError(row, importance[row]);
      bits[row] = 0;
    }
  }
}

const singleValue = new Float32Array(1);
const singleBits = new Int32Array(singleValue.buffer);

/**
 * Bits of the least single-precision number that is at least `value`, a finite number of at least 0; those of
 * infinity when there is none.
 */
export function leastBitsAtLeast(value: number): number {
  singleValue[0] = value;
  // Adding 0 turns -0, whose bits are negative, into +0.
  singleValue[0] += 0;
  return singleValue[0] < value ? singleBits[0] + 1 : singleBits[0];
}

function importanceError(row: number, got: number): ChunkSelectorError {
  return new ChunkSelectorError("INVALID_IMPORTANCE", {
    path: `importance[${row}]`,
    expected: "a finite number of at least 0",
    got: String(got),
    remedy: Number.isNaN(got)
      ? "The activations hold NaN: check the input and the weights of the layers before this one."
      : "Importance is a mean of absolute activations; see importanceOf.",
  });
}
