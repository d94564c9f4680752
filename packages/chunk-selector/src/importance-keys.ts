import { ChunkSelectorError, requireLength } from "./errors.js";

/** Bits of +Infinity; every finite non-negative single-precision number has smaller bits. */
const INFINITY_BITS = 0x7f80_0000;
const NEGATIVE_ZERO_BITS = 0x8000_0000;

/**
 * A private copy of the importance in which `-0` is `+0`, seen as numbers and as bits: for non-negative
 * single-precision numbers the order of the bits is the order of the numbers.
 */
export class ImportanceKeys {
  /** `[maxRows]`; the first `rows` entries are the importance. */
  readonly values: Float32Array;
  /** The same memory as bits. */
  readonly bits: Uint32Array;

  constructor(maxRows: number) {
    this.values = new Float32Array(maxRows);
    this.bits = new Uint32Array(this.values.buffer);
  }

  /**
   * Copies and checks `[rows]` importances.
   * @throws ChunkSelectorError `INVALID_IMPORTANCE` on NaN, an infinity or a negative number.
   */
  load(importance: Float32Array, rows: number): void {
    requireLength(importance.length, rows, "importance", "rows");
    this.values.set(importance);
    const bits = this.bits;
    for (let row = 0; row < rows; row++) {
      if (bits[row] < INFINITY_BITS) continue;
      if (bits[row] !== NEGATIVE_ZERO_BITS) throw importanceError(row, importance[row]);
      bits[row] = 0;
    }
  }
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
