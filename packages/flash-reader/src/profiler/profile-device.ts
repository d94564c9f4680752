import { parseDeviceProfile } from "@neuron-chunking/latency-model";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { FlashReaderError } from "../errors.js";
import type { Bench } from "./bench.js";
import { notTheDevice } from "./cache-check.js";
import { deviceFacts } from "./device-facts.js";
import type { DeviceFacts } from "./device-facts.js";
import { hasUring, keyOf, PROBE_VERSION } from "./device-key.js";
import type { BackendRequest } from "./device-key.js";
import { FULL_EFFORT, QUICK_EFFORT } from "./effort.js";
import type { Effort } from "./effort.js";
import { measureDevice } from "./measure-device.js";
import type { Measurement } from "./measure-device.js";
import { affordableBytes, ensureProbeFile } from "./probe-file.js";
import type { ProbeFile } from "./probe-file.js";
import { Progress } from "./progress.js";
import type { ProfileProgress } from "./progress.js";
import { Random } from "./random.js";
import { Readers } from "./readers.js";
import { SteadyReads } from "./steady-reads.js";

export interface ProfileDeviceOptions extends BackendRequest {
  /** Where the probe file is kept for later runs: it decides which device is measured. Made when missing. */
  readonly directory: string;
  /**
   * Size of the probe file, a multiple of 1 MiB, at least 64 MiB. By default 256 MiB in quick mode and
   * else 2 GiB, more than device caches hold, or as much of that as the disk allows.
   */
  readonly fileBytes?: number;
  /** A few seconds (the default) or about a minute. */
  readonly quick?: boolean;
  readonly onProgress?: (progress: ProfileProgress) => void;
  readonly signal?: AbortSignal;
}

const MIB = 1 << 20;
const MIN_FILE_BYTES = 64 * MIB;
const MAX_FILE_BYTES = 1024 * 1024 * MIB;
const SEED = 0x2545f491;

/**
 * Measures T[s], the time of one read of `s` bytes at saturating throughput, with the reader itself
 * (paper section 3.1 and App. D), how the device is driven best, and what batches of reads cost beyond the
 * sum of T[s]. Quick mode takes a few seconds, full mode about a minute, plus writing the probe file once.
 *
 * Rejects with NO_SPACE, OPEN_FAILED (nothing can be written in `directory`), DIRECT_IO_UNSUPPORTED (also when
 * direct reads turn out to be answered by a cache, twice), INVALID_ARGUMENT, the errors of
 * `FlashReader.open` and `read`, or the signal's reason. The probe file stays for the next run.
 */
export function profileDevice(options: ProfileDeviceOptions): Promise<DeviceProfile> {
  return profileWithEffort(options, (options.quick ?? true) ? QUICK_EFFORT : FULL_EFFORT);
}

/** @internal Tests measure less. */
export async function profileWithEffort(
  options: ProfileDeviceOptions,
  effort: Effort,
): Promise<DeviceProfile> {
  const { directory, signal } = options;
  const progress = new Progress(options.onProgress);
  const fileBytes = checkFileBytes(
    options.fileBytes ?? (await affordableBytes(directory, effort.fileBytes, MIN_FILE_BYTES)),
  );
  const onFraction = progress.of("probe-file");
  const probe = await ensureProbeFile({ directory, fileBytes, signal, onFraction });
  const facts = await deviceFacts(probe.path);
  const readers = new Readers(probe.path, options);
  const random = new Random(SEED);
  const reads = new SteadyReads(effort, random, signal);
  try {
    const measurement = await measureAgainWhenCached(
      { readers, reads, effort, random },
      facts,
      progress,
    );
    signal?.throwIfAborted();
    const key = keyOf(facts, options, await hasUring());
    progress.of("batches")(1);
    return describe(measurement, facts, probe, effort, key);
  } finally {
    await readers.closeAll();
  }
}

/** Another process that reads the probe file looks like a cache, once (P2). */
async function measureAgainWhenCached(
  bench: Bench,
  facts: DeviceFacts,
  progress: Progress,
): Promise<Measurement> {
  const first = await measureDevice(bench, facts, progress);
  if (first.suspicion === undefined) return first.measurement;
  const second = await measureDevice(bench, facts, progress);
  if (second.suspicion === undefined) {
    return { ...second.measurement, noise: { ...second.measurement.noise, repeatedRuns: 1 } };
  }
  throw notTheDevice(bench.readers.path, second.suspicion);
}

function describe(
  measurement: Measurement,
  { device, linkBytesPerSecond }: DeviceFacts,
  { fileBytes, extents }: ProbeFile,
  effort: Effort,
  key: string,
): DeviceProfile {
  const { method, encodedBytes, errno } = extents;
  return parseDeviceProfile({
    schemaVersion: 1,
    name: device.model ?? `${device.fileSystem ?? "unknown"} storage`,
    origin: "measured",
    source: `@neuron-chunking/flash-reader, ${effort.name} profile over ${fileBytes / MIB} MiB`,
    createdAt: new Date().toISOString(),
    device: {
      ...device,
      ...(linkBytesPerSecond !== undefined && { linkBytesPerSecond }),
      probeFileBytes: fileBytes,
      probeFileCheck: errno === undefined ? method : `${method} (no FIEMAP: ${errno})`,
      ...(extents.extents !== undefined && { probeFileExtents: extents.extents }),
      // The device then reads fewer bytes than we count, and the processor does the rest.
      ...(encodedBytes > 0 && { probeFileEncodedBytes: encodedBytes }),
    },
    ...measurement,
    key,
    probeVersion: PROBE_VERSION,
  });
}

function checkFileBytes(fileBytes: number): number {
  if (fileBytes >= MIN_FILE_BYTES && fileBytes <= MAX_FILE_BYTES && fileBytes % MIB === 0) {
    return fileBytes;
  }
  throw new FlashReaderError(
    "INVALID_ARGUMENT",
    `fileBytes must be a multiple of 1 MiB from ${MIN_FILE_BYTES} to ${MAX_FILE_BYTES}; got ${fileBytes}.`,
    { got: fileBytes },
  );
}
