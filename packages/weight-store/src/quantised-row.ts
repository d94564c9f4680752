import { BINARY16_OVERFLOW, binary16Bits, binary16Value, roundHalfEven } from "./binary16.js";
import { WeightStoreError } from "./errors.js";

/** Integer types of quantised rows. */
export type QuantisedDType = "int8" | "int4";
export const QUANTISED_DTYPES: readonly QuantisedDType[] = ["int8", "int4"];

/** Neighbouring columns that share a scale. */
export type GroupSize = 32 | 64;
export const GROUP_SIZES: readonly GroupSize[] = [32, 64];
/** Finer groups cost 2 bytes for 64 more weights and follow outliers more closely. */
const DEFAULT_GROUP_SIZE: GroupSize = 32;

const SCALE_BYTES = 2;
/** Largest quant; symmetric, so the most negative value of each type stays unused. */
const LARGEST_QUANT: Readonly<Record<QuantisedDType, number>> = { int8: 127, int4: 7 };

/** How the weights of a bundle are quantised. */
export interface QuantisedFormat {
  dtype: QuantisedDType;
  groupSize: GroupSize;
}

/**
 * Checks what a caller asks for; undefined where weights stay as they are.
 * @throws WeightStoreError INVALID_ARGUMENT for another dtype or group size, or a group size alone.
 */
export function quantisedFormat(options: {
  dtype?: QuantisedDType | undefined;
  groupSize?: GroupSize | undefined;
}): QuantisedFormat | undefined {
  const { dtype, groupSize = DEFAULT_GROUP_SIZE } = options;
  if (dtype === undefined) {
    if (options.groupSize === undefined) return undefined;
    throw new WeightStoreError(
      "INVALID_ARGUMENT",
      "groupSize goes with a dtype of int8 or int4; weights that keep their type have no groups.",
      { name: "groupSize", expected: undefined, got: options.groupSize },
    );
  }
  if (!QUANTISED_DTYPES.includes(dtype)) {
    throw new WeightStoreError(
      "INVALID_ARGUMENT",
      `dtype must be ${QUANTISED_DTYPES.join(" or ")}, not ${String(dtype)}; ` +
        `leave it out to keep the checkpoint's own type.`,
      { name: "dtype", expected: QUANTISED_DTYPES, got: dtype },
    );
  }
  if (!GROUP_SIZES.includes(groupSize)) {
    throw new WeightStoreError(
      "INVALID_ARGUMENT",
      `groupSize must be ${GROUP_SIZES.join(" or ")}, not ${String(groupSize)}.`,
      { name: "groupSize", expected: GROUP_SIZES, got: groupSize },
    );
  }
  return { dtype, groupSize };
}

/** How far the rows of a bundle moved: |w - q scale| / |w| of each (2-norms), 0 for a row of zeros. */
export interface QuantisationError {
  /** Over the rows. */
  mean: number;
  /** Of the row that moved furthest. */
  worst: number;
}

/** Where things lie in a quantised row: quants from byte 0, then one binary16 scale for each group of columns. */
export interface RowLayout {
  scalesOffsetBytes: number;
  groups: number;
  rowBytes: number;
}

/** The layout of a row of `columns` weights: [quants, padded to 2 bytes][scales]. */
export function quantisedRowLayout(format: QuantisedFormat, columns: number): RowLayout {
  const quantBytes = format.dtype === "int8" ? columns : Math.ceil(columns / 2);
  const scalesOffsetBytes = Math.ceil(quantBytes / SCALE_BYTES) * SCALE_BYTES;
  const groups = Math.ceil(columns / format.groupSize);
  return { scalesOffsetBytes, groups, rowBytes: scalesOffsetBytes + SCALE_BYTES * groups };
}

/**
 * Quantises rows of one bundle, one after the other. Each group of columns has `scale = max|w| / 127` (int8) or `/ 7`
 * (int4), rounded to binary16, and `q = w / scale` rounded half to even; `w` is read back as `q * scale`.
 */
export class RowQuantiser {
  readonly layout: RowLayout;
  private readonly largest: number;

  /** @param columns Weights of one row. */
  constructor(
    private readonly format: QuantisedFormat,
    private readonly columns: number,
  ) {
    this.layout = quantisedRowLayout(format, columns);
    this.largest = LARGEST_QUANT[format.dtype];
  }

  /**
   * Writes one row.
   * @param weights [columns]
   * @param row [rowBytes], overwritten.
   * @param refuse Called with the column of a weight that is NaN, infinite, or too large for a binary16 scale; throws.
   * @returns |w - q scale| / |w| over the row (2-norms); 0 for a row of zeros.
   */
  quantise(weights: Float32Array, row: Uint8Array, refuse: (column: number) => never): number {
    const { scalesOffsetBytes } = this.layout;
    const { groupSize, dtype } = this.format;
    row.fill(0);
    let squaredError = 0;
    let squaredNorm = 0;
    for (let first = 0, group = 0; first < this.columns; first += groupSize, group++) {
      const end = Math.min(first + groupSize, this.columns);
      const bits = this.scaleBits(weights, first, end, refuse);
      row[scalesOffsetBytes + SCALE_BYTES * group] = bits & 0xff;
      row[scalesOffsetBytes + SCALE_BYTES * group + 1] = bits >> 8;
      if (bits === 0) continue;
      const scale = binary16Value(bits);
      for (let column = first; column < end; column++) {
        const weight = weights[column];
        const quant = roundHalfEven(weight / scale);
        if (dtype === "int8") row[column] = quant;
        else row[column >> 1] |= (quant & 0xf) << (4 * (column & 1));
        const error = weight - quant * scale;
        squaredError += error * error;
        squaredNorm += weight * weight;
      }
    }
    return squaredNorm === 0 ? 0 : Math.sqrt(squaredError / squaredNorm);
  }

  /** The group's scale as binary16: the nearest, or the next above where that would push a quant out of range. */
  private scaleBits(
    weights: Float32Array,
    first: number,
    end: number,
    refuse: (column: number) => never,
  ): number {
    const limit = BINARY16_OVERFLOW * this.largest;
    let most = 0;
    for (let column = first; column < end; column++) {
      const magnitude = Math.abs(weights[column]);
      // NaN fails every comparison, so the question is asked this way round.
      if (!(magnitude < limit)) refuse(column);
      if (magnitude > most) most = magnitude;
    }
    if (most === 0) return 0;
    const bits = binary16Bits(most / this.largest);
    // Among the subnormals, steps are coarse: the nearest may be half a step too small, or zero.
    return roundHalfEven(most / binary16Value(bits)) > this.largest ? bits + 1 : bits;
  }
}
