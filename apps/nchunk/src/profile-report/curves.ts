import type { DeviceProfile, LatencyCurve, ProfileSample } from "@neuron-chunking/latency-model";

/** One backend's curve, as every chart wants it. */
export interface Curve {
  readonly name: string;
  readonly table: LatencyCurve;
}

/** The curve of every backend measured; of a profile that keeps none, its own table under the reader's name. */
export function curvesOf(profile: DeviceProfile): Curve[] {
  const { backends, reader, table } = profile;
  if (backends && backends.length > 0) return [...backends];
  return [{ name: reader?.backend ?? profile.origin, table }];
}

/** Bytes per nanosecond are gigabytes per second. */
export const throughputBytesPerSecond = (sizeBytes: number, latencyNs: number): number =>
  (sizeBytes / latencyNs) * 1e9;

/** `T[s]` between samples, linear; the nearest sample outside them. */
export function latencyAt({ sizesBytes, latencyNs }: LatencyCurve, sizeBytes: number): number {
  const above = sizesBytes.findIndex((size) => size >= sizeBytes);
  if (above < 0) return latencyNs[latencyNs.length - 1];
  if (above === 0 || sizesBytes[above] === sizeBytes) return latencyNs[above];
  const [low, high] = [sizesBytes[above - 1], sizesBytes[above]];
  const share = (sizeBytes - low) / (high - low);
  return latencyNs[above - 1] + share * (latencyNs[above] - latencyNs[above - 1]);
}

export interface SamplePoint {
  readonly sizeBytes: number;
  readonly latencyNs: number;
  /** How far the sample lies from the fitted table: 0.05 is 5 % above. */
  readonly residual: number;
}

/** Every raw sample with its distance from the fit. */
export function samplePoints(profile: DeviceProfile): SamplePoint[] {
  const samples: readonly ProfileSample[] = profile.samples ?? [];
  return samples.flatMap(({ sizeBytes, latencyNs }) => {
    const fitted = latencyAt(profile.table, sizeBytes);
    return latencyNs.map((ns) => ({ sizeBytes, latencyNs: ns, residual: ns / fitted - 1 }));
  });
}
