/**
 * Antialiased resizing of 8-bit RGB pictures, bit for bit as the reference's (PyTorch's `interpolate` with
 * `antialias=True` on uint8): one pass per axis, columns first, 16-bit fixed-point weights, 8 bits between
 * the passes.
 */

/** Decoded 8-bit RGB. The pixels belong to whoever made the picture; nothing here writes to them. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  /** [height, width, 3] */
  readonly rgb: Uint8Array;
}

export type ResampleFilter = "bicubic" | "bilinear";

const CHANNELS = 3;
/** Weights are scaled to fill 15 bits, with at most this many fraction bits. */
const MAX_FRACTION_BITS = 22;
const WEIGHT_LIMIT = 1 << 15;
/** Multiplications after which the event loop gets a turn: some 10 ms. */
const MULTIPLICATIONS_PER_TURN = 8_000_000;

/** Keys' kernel with a = -0.5, as PIL and antialiased PyTorch have it. */
function cubic(x: number): number {
  const a = -0.5;
  const d = Math.abs(x);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return (((d - 5) * d + 8) * d - 4) * a;
  return 0;
}

const triangle = (x: number): number => Math.max(0, 1 - Math.abs(x));

const FILTERS = {
  bicubic: { weight: cubic, radius: 2 },
  bilinear: { weight: triangle, radius: 1 },
} as const;

/** For each output index: its first input, how many inputs it takes, and their fixed-point weights. */
interface AxisWeights {
  readonly firsts: Int32Array;
  readonly counts: Int32Array;
  /** [outputs, taps] */
  readonly weights: Int16Array;
  readonly taps: number;
  readonly fractionBits: number;
}

function axisWeights(inputs: number, outputs: number, filter: ResampleFilter): AxisWeights {
  const { weight, radius } = FILTERS[filter];
  const scale = inputs / outputs;
  const support = scale >= 1 ? radius * scale : radius;
  const inverseScale = scale >= 1 ? 1 / scale : 1;
  const taps = Math.ceil(support) * 2 + 1;
  const firsts = new Int32Array(outputs);
  const counts = new Int32Array(outputs);
  const exact = new Float64Array(outputs * taps);
  let largest = 0;
  for (let i = 0; i < outputs; i++) {
    const center = scale * (i + 0.5);
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), inputs);
    const count = Math.min(Math.max(end - first, 0), taps);
    let total = 0;
    for (let j = 0; j < count; j++) {
      total += exact[i * taps + j] = weight((j + first - center + 0.5) * inverseScale);
    }
    for (let j = 0; j < count; j++) {
      if (total !== 0) exact[i * taps + j] /= total;
      largest = Math.max(largest, exact[i * taps + j]);
    }
    firsts[i] = first;
    counts[i] = count;
  }
  let fractionBits = 0;
  while (
    fractionBits < MAX_FRACTION_BITS &&
    Math.trunc(0.5 + largest * 2 ** (fractionBits + 1)) < WEIGHT_LIMIT
  ) {
    fractionBits++;
  }
  const weights = Int16Array.from(exact, (value) =>
    Math.trunc(value * 2 ** fractionBits + (value < 0 ? -0.5 : 0.5)),
  );
  return { firsts, counts, weights, taps, fractionBits };
}

/** Resizes rows `from` to `to` along their columns. */
function resizeColumns(
  source: Picture,
  target: Picture,
  axis: AxisWeights,
  from: number,
  to: number,
): void {
  const { firsts, counts, weights, taps, fractionBits } = axis;
  const half = 1 << (fractionBits - 1);
  const { rgb } = source;
  const out = target.rgb;
  for (let y = from; y < to; y++) {
    const row = y * source.width * CHANNELS;
    let o = y * target.width * CHANNELS;
    for (let x = 0; x < target.width; x++) {
      let s = row + firsts[x] * CHANNELS;
      let w = x * taps;
      const end = w + counts[x];
      let red = half;
      let green = half;
      let blue = half;
      for (; w < end; w++, s += CHANNELS) {
        const weight = weights[w];
        red = (red + weight * rgb[s]) | 0;
        green = (green + weight * rgb[s + 1]) | 0;
        blue = (blue + weight * rgb[s + 2]) | 0;
      }
      out[o++] = clamp(red >> fractionBits);
      out[o++] = clamp(green >> fractionBits);
      out[o++] = clamp(blue >> fractionBits);
    }
  }
}

/** Resizes output rows `from` to `to` along the rows; both pictures are equally wide. */
function resizeRows(
  source: Picture,
  target: Picture,
  axis: AxisWeights,
  from: number,
  to: number,
): void {
  const { firsts, counts, weights, taps, fractionBits } = axis;
  const half = 1 << (fractionBits - 1);
  const stride = source.width * CHANNELS;
  const sums = new Int32Array(stride);
  for (let y = from; y < to; y++) {
    sums.fill(half);
    for (let j = 0; j < counts[y]; j++) {
      const weight = weights[y * taps + j];
      const row = (firsts[y] + j) * stride;
      for (let i = 0; i < stride; i++) sums[i] = sums[i] + weight * source.rgb[row + i];
    }
    const o = y * stride;
    for (let i = 0; i < stride; i++) target.rgb[o + i] = clamp(sums[i] >> fractionBits);
  }
}

const clamp = (value: number): number => (value < 0 ? 0 : value > 255 ? 255 : value);

const blank = (width: number, height: number): Picture => ({
  width,
  height,
  rgb: new Uint8Array(width * height * CHANNELS),
});

/** Runs `step` over blocks of rows and lets the event loop run in between. */
async function inTurns(
  rows: number,
  multiplicationsPerRow: number,
  step: (from: number, to: number) => void,
): Promise<void> {
  const block = Math.max(1, Math.floor(MULTIPLICATIONS_PER_TURN / multiplicationsPerRow));
  for (let from = 0; from < rows; from += block) {
    if (from > 0) await new Promise((resolve) => setImmediate(resolve));
    step(from, Math.min(rows, from + block));
  }
}

/**
 * The picture at `width` x `height`; the very same object when it has that size already.
 * Gives the event loop a turn every few milliseconds of work.
 */
export async function resizePicture(
  source: Picture,
  width: number,
  height: number,
  filter: ResampleFilter = "bicubic",
): Promise<Picture> {
  let picture = source;
  if (width !== picture.width) {
    const axis = axisWeights(picture.width, width, filter);
    const input = picture;
    const output = blank(width, picture.height);
    await inTurns(picture.height, width * axis.taps * CHANNELS, (from, to) =>
      resizeColumns(input, output, axis, from, to),
    );
    picture = output;
  }
  if (height !== picture.height) {
    const axis = axisWeights(picture.height, height, filter);
    const input = picture;
    const output = blank(width, height);
    await inTurns(height, width * axis.taps * CHANNELS, (from, to) =>
      resizeRows(input, output, axis, from, to),
    );
    picture = output;
  }
  return picture;
}

/** The picture in the middle of a `width` x `height` canvas; odd space goes right and below. */
export function padPicture(
  source: Picture,
  width: number,
  height: number,
  background: readonly [number, number, number] = [0, 0, 0],
): Picture {
  if (source.width === width && source.height === height) return source;
  const canvas = blank(width, height);
  if (background.some((value) => value !== 0)) {
    for (let i = 0; i < canvas.rgb.length; i++) canvas.rgb[i] = background[i % CHANNELS];
  }
  const left = Math.floor((width - source.width) / 2);
  const top = Math.floor((height - source.height) / 2);
  const rowLength = source.width * CHANNELS;
  for (let y = 0; y < source.height; y++) {
    const row = source.rgb.subarray(y * rowLength, (y + 1) * rowLength);
    canvas.rgb.set(row, ((top + y) * width + left) * CHANNELS);
  }
  return canvas;
}
