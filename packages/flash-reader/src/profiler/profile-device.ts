import { parseDeviceProfile, saturationSizeBytes } from "@neuron-chunking/latency-model";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { FlashReaderError } from "../errors.js";
import { FlashReader } from "../reader.js";
import type { FlashReaderOptions } from "../reader.js";
import { deviceFacts } from "./device-facts.js";
import { fitLatencyNs, median } from "./latency-fit.js";
import { measureLatencies, QUICK_EFFORT, THOROUGH_EFFORT } from "./measure.js";
import { ensureProbeFile } from "./probe-file.js";

export interface ProfileProgress {
  readonly phase: "probe-file" | "measuring";
  /** Of this phase, 0 to 1. */
  readonly fraction: number;
}

export interface ProfileDeviceOptions {
  /** Where the probe file is kept for later runs: it decides which device is measured. Made when missing. */
  readonly directory: string;
  /** Size of the probe file, a multiple of 1 MiB, at least 64 MiB. 256 MiB in quick mode, else 2 GiB. */
  readonly fileBytes?: number;
  /** A few seconds (the default) or about a minute. */
  readonly quick?: boolean;
  /** Reading threads, as of `FlashReader.open`. */
  readonly threads?: number;
  /** As of `FlashReader.open`, `"optional"` by default: `reader.directIo` of the profile says what was used. */
  readonly directIo?: FlashReaderOptions["directIo"];
  readonly onProgress?: (progress: ProfileProgress) => void;
  readonly signal?: AbortSignal;
}

const MIB = 1 << 20;
const MIN_FILE_BYTES = 64 * MIB;
const MAX_FILE_BYTES = 1024 * 1024 * MIB;

const KIB = 1024;
/**
 * Read sizes, dense where the curve bends. Up to 1 MiB, where requests are split. Some are no
 * multiple of a page, as real rows are: 1792 and 7168 bytes (0.5B and 7B models) and 37 KiB.
 */
const SIZES_BYTES: readonly number[] = [
  ...[1, 1.75, 2, 3, 4, 6, 7, 8, 12, 16, 20, 24, 32, 37, 40, 48, 64, 80, 96, 112, 128],
  ...[160, 192, 224, 256, 320, 384, 512, 640, 768, 1024],
].map((kib) => kib * KIB);

/**
 * Measures T[s], the time of one read of `s` bytes at saturating throughput, with the reader itself
 * (paper section 3.1 and App. D). Quick mode takes a few seconds, plus writing the probe file once.
 *
 * Rejects with NO_SPACE, INVALID_ARGUMENT, the errors of `FlashReader.open` and `read`, or the
 * signal's reason. The probe file stays for the next run.
 */
export async function profileDevice(options: ProfileDeviceOptions): Promise<DeviceProfile> {
  const { directory, quick = true, onProgress, signal } = options;
  const fileBytes = checkFileBytes(options.fileBytes ?? (quick ? 256 * MIB : 2048 * MIB));
  const report = (phase: ProfileProgress["phase"]) => (fraction: number) =>
    onProgress?.({ phase, fraction });
  const path = await ensureProbeFile({
    directory,
    fileBytes,
    signal,
    onFraction: report("probe-file"),
  });
  const reader = await FlashReader.open(path, {
    ...(options.threads !== undefined && { threads: options.threads }),
    ...(options.directIo !== undefined && { directIo: options.directIo }),
  });
  try {
    const { samples, noise } = await measureLatencies(reader, {
      sizesBytes: SIZES_BYTES,
      effort: quick ? QUICK_EFFORT : THOROUGH_EFFORT,
      signal,
      onFraction: report("measuring"),
    });
    const latencyNs = fitLatencyNs(
      SIZES_BYTES,
      samples.map((sample) => median(sample.latencyNs)),
    );
    const saturationBytes = saturationSizeBytes(SIZES_BYTES, latencyNs);
    const saturationNs = latencyNs[SIZES_BYTES.indexOf(saturationBytes)];
    const device = await deviceFacts(path);
    return parseDeviceProfile({
      schemaVersion: 1,
      name: device.model ?? `${device.fileSystem ?? "unknown"} storage`,
      origin: "measured",
      source: `@neuron-chunking/flash-reader, ${quick ? "quick" : "thorough"} profile over ${fileBytes / MIB} MiB`,
      createdAt: new Date().toISOString(),
      reader: {
        backend: reader.backend.name,
        directIo: reader.backend.directIo,
        threads: reader.threads,
        alignmentBytes: reader.alignmentBytes,
      },
      device,
      table: { sizesBytes: SIZES_BYTES, latencyNs },
      saturationBytes,
      tailNsPerByte: saturationNs / saturationBytes,
      noise,
      samples,
    });
  } finally {
    await reader.close();
  }
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
