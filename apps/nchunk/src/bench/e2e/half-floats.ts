const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** Bits of the bfloat16 nearest to a finite number; ties go to the even one. */
export function bfloat16Bits(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0];
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

const F16_MAX_FINITE = 65_504;
/** Smallest exponent of a normal IEEE binary16, as a power of two. */
const F16_MIN_EXPONENT = -14;
const F16_FRACTION_BITS = 10;
const F16_EXPONENT_BIAS = 15;

/** Round half to even. */
function roundEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Bits of the IEEE binary16 nearest to a number of at most 65504; ties go to the even one. */
export function float16Bits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.min(Math.abs(value), F16_MAX_FINITE);
  if (magnitude === 0) return sign;
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), F16_MIN_EXPONENT);
  // Units of the last place; a carry out of the fraction lands in the exponent, where it belongs.
  const units = roundEven(magnitude * 2 ** (F16_FRACTION_BITS - exponent));
  const biased = (exponent + F16_EXPONENT_BIAS - 1) << F16_FRACTION_BITS;
  return sign | (biased + units);
}
