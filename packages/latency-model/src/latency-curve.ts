import * as read from "./json-fields.js";

/** Most samples in a table: 1 KiB steps up to 64 MiB, far past any device's saturation size. */
export const MAX_TABLE_SAMPLES = 65_536;

/** Time per read by read size. */
export interface LatencyCurve {
  /** Read sizes, bytes, positive integers, strictly ascending. */
  readonly sizesBytes: readonly number[];
  /** Time per read, ns, positive, non-decreasing, one per size. */
  readonly latencyNs: readonly number[];
}

/** Raw measurements of one read size, kept as evidence beside a table. */
export interface ProfileSample {
  /** Read size, bytes. */
  readonly sizeBytes: number;
  /** Time per read in each round, ns. */
  readonly latencyNs: readonly number[];
}

/** The curve in a field of a foreign document, checked and copied. */
export function readCurve(value: unknown, path: string): LatencyCurve {
  const curve = read.object(value, path);
  const sizesBytes = read
    .array(curve, "sizesBytes", `${path}.sizesBytes`, 1, MAX_TABLE_SAMPLES)
    .map((size, index) => read.asInteger(size, `${path}.sizesBytes[${index}]`, 1));
  const latencyNs = readLatencies(curve, path);
  if (latencyNs.length !== sizesBytes.length) {
    const expected = `as long as ${path}.sizesBytes (${sizesBytes.length})`;
    throw read.fieldError(`${path}.latencyNs`, expected, latencyNs);
  }
  for (let index = 1; index < sizesBytes.length; index++) {
    read.requireAscending(sizesBytes, index, `${path}.sizesBytes`);
    if (latencyNs[index] < latencyNs[index - 1]) {
      const expected = `at least ${latencyNs[index - 1]} (non-decreasing)`;
      const remedy = "Noisy measurements are made monotone with monotoneLatencyNs.";
      throw read.fieldError(`${path}.latencyNs[${index}]`, expected, latencyNs[index], remedy);
    }
  }
  return { sizesBytes, latencyNs };
}

/** The array `samples` of `parent`, which is at `parentPath` (empty for the root). */
export function readSamples(parent: read.JsonObject, parentPath: string): ProfileSample[] {
  const samples = `${parentPath}samples`;
  return read.array(parent, "samples", samples, 0, MAX_TABLE_SAMPLES).map((entry, index) => {
    const path = `${samples}[${index}]`;
    const sample = read.object(entry, path);
    const sizeBytes = read.integer(sample, "sizeBytes", `${path}.sizeBytes`, 1);
    return { sizeBytes, latencyNs: readLatencies(sample, path) };
  });
}

/** The array `latencyNs` of `parent`: positive times in any order. */
export function readLatencies(parent: read.JsonObject, path: string): number[] {
  return read
    .array(parent, "latencyNs", `${path}.latencyNs`, 1, MAX_TABLE_SAMPLES)
    .map((latency, index) => read.asPositive(latency, `${path}.latencyNs[${index}]`));
}

/**
 * Time of one read of `sizeBytes`: linear between samples, the first sample below the first size, the last
 * above the last. No allocation, nothing is checked.
 */
export function interpolate(
  sizesBytes: ArrayLike<number>,
  latencyNs: ArrayLike<number>,
  sizeBytes: number,
): number {
  let low = 0;
  let high = sizesBytes.length - 1;
  if (sizeBytes <= sizesBytes[0]) return latencyNs[0];
  if (sizeBytes >= sizesBytes[high]) return latencyNs[high];
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (sizesBytes[middle] < sizeBytes) low = middle;
    else high = middle;
  }
  if (sizeBytes === sizesBytes[high]) return latencyNs[high];
  const share = (sizeBytes - sizesBytes[low]) / (sizesBytes[high] - sizesBytes[low]);
  return latencyNs[low] + share * (latencyNs[high] - latencyNs[low]);
}
