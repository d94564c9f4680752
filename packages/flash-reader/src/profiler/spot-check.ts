import { performance } from "node:perf_hooks";
import { LatencyTable } from "@neuron-chunking/latency-model";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { deviceKey } from "./device-key.js";
import type { BackendRequest } from "./device-key.js";
import { QUICK_EFFORT } from "./effort.js";
import { measureRound } from "./interleave.js";
import { affordableBytes, ensureProbeFile } from "./probe-file.js";
import { Random } from "./random.js";
import { Readers } from "./readers.js";
import { median, quantile } from "./statistics.js";
import { readsInFlight, SteadyReads } from "./steady-reads.js";

const KIB = 1024;
const LEAST_FILE_BYTES = 64 << 20;
const SIZES_BYTES = [4 * KIB, 64 * KIB, 512 * KIB];
const SPOT_CHECK_MS = 1000;
const MIN_ROUNDS = 5;
/** A profile that is off by more than this is out of date (P4). */
const TOLERANCE = 0.1;
const SEED = 0x1b873593;

export interface SpotCheckOptions extends BackendRequest {
  /** The directory that was profiled; a probe file is kept in it. */
  readonly directory: string;
  readonly signal?: AbortSignal;
}

export interface SpotSize {
  readonly sizeBytes: number;
  readonly expectedNs: number;
  /** Median of the check's rounds. */
  readonly measuredNs: number;
  /**
   * How far the middle half of the check's rounds is off: -0.2 is 20 % less at best, 0 when the expected time
   * lies among them.
   */
  readonly deviation: number;
  /** How far it may be off: 10 %, or what the profile's own rounds differ by where that is more. */
  readonly tolerance: number;
}

export interface SpotCheck {
  readonly valid: boolean;
  /** Why not. */
  readonly reason?: string;
  /** Empty when the key already tells another device. */
  readonly sizes: readonly SpotSize[];
}

/**
 * Whether a profile still describes the storage under `directory` (P4): the same key, and a second of
 * reads at three sizes none of which is off by more than 10 %. Where that second or the profile itself was
 * noisy, times may be off by as much as they vary.
 *
 * Rejects as `profileDevice` does.
 */
export async function spotCheckProfile(
  profile: DeviceProfile,
  options: SpotCheckOptions,
): Promise<SpotCheck> {
  const { directory, signal } = options;
  // The same span as then: more of a smaller file may lie in caches.
  const measuredBytes = Number(profile.device?.["probeFileBytes"] ?? QUICK_EFFORT.fileBytes);
  const fileBytes = await affordableBytes(directory, measuredBytes, LEAST_FILE_BYTES);
  const { path } = await ensureProbeFile({ directory, fileBytes, signal });
  if (profile.key !== undefined && profile.key !== (await deviceKey(path, options))) {
    return {
      valid: false,
      reason: "the device, its settings, the kernel or the profiler are not those of the profile",
      sizes: [],
    };
  }
  const checked = compare(profile, SIZES_BYTES, await measure(profile, path, options));
  const worst = checked.find(({ deviation, tolerance }) => Math.abs(deviation) > tolerance);
  if (worst === undefined) return { valid: true, sizes: checked };
  const percent = (share: number): string => `${Math.round(Math.abs(share) * 100)} %`;
  return {
    valid: false,
    reason:
      `reads of ${worst.sizeBytes / KIB} KiB take ${percent(worst.deviation)} ` +
      `${worst.deviation > 0 ? "more" : "less"} than in the profile (up to ${percent(worst.tolerance)} would be noise)`,
    sizes: checked,
  };
}

/** @internal The profile's expectations beside measured times, [sizes][rounds]. */
export function compare(
  profile: DeviceProfile,
  sizesBytes: readonly number[],
  samples: readonly (readonly number[])[],
): SpotSize[] {
  const table = new LatencyTable(profile);
  return sizesBytes.map((sizeBytes, i) => {
    const expectedNs = table.latencyNs(sizeBytes);
    return {
      sizeBytes,
      expectedNs,
      measuredNs: median(samples[i]),
      deviation: deviationOf(samples[i], expectedNs),
      tolerance: Math.max(TOLERANCE, spreadAt(profile, sizeBytes)),
    };
  });
}

function deviationOf(samples: readonly number[], expectedNs: number): number {
  const [low, high] = [quantile(samples, 0.25), quantile(samples, 0.75)];
  if (low > expectedNs) return low / expectedNs - 1;
  return high < expectedNs ? high / expectedNs - 1 : 0;
}

/** How far the rounds of the profile were apart at this size: p10 to p90, relative to the median. */
function spreadAt({ samples }: DeviceProfile, sizeBytes: number): number {
  const found = samples?.find((sample) => sample.sizeBytes === sizeBytes)?.latencyNs ?? [];
  if (found.length === 0) return 0;
  return (quantile(found, 0.9) - quantile(found, 0.1)) / quantile(found, 0.5);
}

async function measure(
  profile: DeviceProfile,
  path: string,
  options: SpotCheckOptions,
): Promise<number[][]> {
  const random = new Random(SEED);
  const reads = new SteadyReads(QUICK_EFFORT, random, options.signal);
  const readers = new Readers(path, options);
  try {
    const reader = await readers.open(profile.reader?.tuning ?? {});
    const candidates = SIZES_BYTES.map((sizeBytes) =>
      reads.candidate({ reader, sizeBytes, inFlight: readsInFlight(reader, sizeBytes) }),
    );
    for (const candidate of candidates) await candidate();
    const samples: number[][] = SIZES_BYTES.map(() => []);
    const untilMs = performance.now() + SPOT_CHECK_MS;
    while (samples[0].length < MIN_ROUNDS || performance.now() < untilMs) {
      await measureRound(candidates, samples, random);
    }
    return samples;
  } finally {
    await readers.closeAll();
  }
}
