import { describeValue, LatencyModelError, requirePositive } from "./errors.js";

/** The share of peak throughput at which the paper calls a read size saturated (App. D). */
export const SATURATION_FRACTION = 0.99;

/**
 * The smallest sampled read size whose throughput reaches `fraction` of the highest throughput sampled.
 *
 * @param sizesBytes Read sizes, strictly ascending, each positive.
 * @param latencyNs Time of one read of each size, ns, same length, each positive.
 * @param fraction Share of the peak, in (0, 1].
 * @returns One of `sizesBytes`.
 * @throws LatencyModelError `INVALID_ARGUMENT`.
 */
export function saturationSizeBytes(
  sizesBytes: ArrayLike<number>,
  latencyNs: ArrayLike<number>,
  fraction: number = SATURATION_FRACTION,
): number {
  if (!(fraction > 0 && fraction <= 1)) {
    throw argumentError("fraction", "in (0, 1]", describeValue(fraction));
  }
  checkSamples(sizesBytes, latencyNs);
  let peak = 0;
  for (let index = 0; index < sizesBytes.length; index++) {
    peak = Math.max(peak, sizesBytes[index] / latencyNs[index]);
  }
  let index = 0;
  while (sizesBytes[index] / latencyNs[index] < fraction * peak) index++;
  return sizesBytes[index];
}

/**
 * The closest non-decreasing sequence to measured latencies (least squares, pool adjacent violators):
 * a larger read can never be cheaper, so a decrease in a measurement is noise. A valid profile needs this.
 *
 * @param latencyNs Measured latencies by ascending read size, ns.
 * @param weights How much each sample counts (such as its number of reads); all 1 when absent.
 * @returns A new array of the same length.
 * @throws LatencyModelError `INVALID_ARGUMENT` on a latency that is not positive or a weight that is not.
 */
export function monotoneLatencyNs(
  latencyNs: ArrayLike<number>,
  weights?: ArrayLike<number>,
): number[] {
  if (weights !== undefined && weights.length !== latencyNs.length) {
    throw argumentError(
      "weights",
      `as long as latencyNs (${latencyNs.length})`,
      String(weights.length),
    );
  }
  const means: number[] = [];
  const masses: number[] = [];
  const spans: number[] = [];
  for (let index = 0; index < latencyNs.length; index++) {
    requirePositive(latencyNs[index], `latencyNs[${index}]`);
    let mass = weights === undefined ? 1 : weights[index];
    requirePositive(mass, `weights[${index}]`);
    let mean = latencyNs[index];
    let span = 1;
    while (means.length > 0 && means[means.length - 1] > mean) {
      const previousMass = masses.pop() as number;
      mean = ((means.pop() as number) * previousMass + mean * mass) / (previousMass + mass);
      mass += previousMass;
      span += spans.pop() as number;
    }
    means.push(mean);
    masses.push(mass);
    spans.push(span);
  }
  return means.flatMap((mean, block) => new Array<number>(spans[block]).fill(mean));
}

function checkSamples(sizesBytes: ArrayLike<number>, latencyNs: ArrayLike<number>): void {
  if (sizesBytes.length === 0) throw argumentError("sizesBytes", "non-empty", "no samples");
  if (sizesBytes.length !== latencyNs.length) {
    const got = `${latencyNs.length} latencies`;
    throw argumentError("latencyNs", `as long as sizesBytes (${sizesBytes.length})`, got);
  }
  for (let index = 0; index < sizesBytes.length; index++) {
    requirePositive(sizesBytes[index], `sizesBytes[${index}]`);
    requirePositive(latencyNs[index], `latencyNs[${index}]`);
    if (index > 0 && sizesBytes[index] <= sizesBytes[index - 1]) {
      const expected = `more than ${sizesBytes[index - 1]} (strictly ascending)`;
      throw argumentError(`sizesBytes[${index}]`, expected, String(sizesBytes[index]));
    }
  }
}

function argumentError(path: string, expected: string, got: string): LatencyModelError {
  return new LatencyModelError("INVALID_ARGUMENT", "Invalid argument", { path, expected, got });
}
