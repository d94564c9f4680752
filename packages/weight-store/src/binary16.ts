/** Half of IEEE 754's spacing beyond binary16's largest value, 65504: from here on a value rounds to infinity. */
export const BINARY16_OVERFLOW = 65_520;
/** Spacing of the subnormals. */
const SUBNORMAL_STEP = 2 ** -24;
const SMALLEST_NORMAL = 2 ** -14;
const FRACTION_STEPS = 1024;
const EXPONENT_BIAS = 15;
const EXPONENT_MASK = 0x1f;

/** One double and its bits, little-endian: its exponent is in the upper word. */
const double = new Float64Array(1);
const doubleWords = new Uint32Array(double.buffer);

/** Adding and taking it away again rounds any |value| below 2^51 to the nearest integer, ties to even. */
const ROUNDER = 1.5 * 2 ** 52;

/** The nearest integer, ties to even; |value| < 2^51. */
export function roundHalfEven(value: number): number {
  return value + ROUNDER - ROUNDER;
}

/**
 * Bits of the binary16 nearest to `value`, ties to even.
 * @param value Not negative, below {@link BINARY16_OVERFLOW}.
 */
export function binary16Bits(value: number): number {
  // Counted in steps, a subnormal is its own bit pattern, and the last step is that of the smallest normal.
  if (value < SMALLEST_NORMAL) return roundHalfEven(value / SUBNORMAL_STEP);
  // The exponent field of the double: log2 would round, and be off next to powers of two.
  double[0] = value;
  const exponent = (doubleWords[1] >>> 20) - 1023;
  const fraction = roundHalfEven((value / 2 ** exponent - 1) * FRACTION_STEPS);
  // A fraction that rounds up to a whole carries into the exponent, as it should.
  return (exponent + EXPONENT_BIAS) * FRACTION_STEPS + fraction;
}

/** The value of 16 bits read as IEEE binary16; infinities and NaN included. */
export function binary16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & EXPONENT_MASK;
  const fraction = bits & (FRACTION_STEPS - 1);
  if (exponent === EXPONENT_MASK) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * SUBNORMAL_STEP;
  return sign * (1 + fraction / FRACTION_STEPS) * 2 ** (exponent - EXPONENT_BIAS);
}
