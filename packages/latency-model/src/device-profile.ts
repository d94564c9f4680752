import { readBatchParameters, type BatchModelParameters } from "./batch-parameters.js";
import { describeValue, LatencyModelError } from "./errors.js";
import * as read from "./json-fields.js";
import { readCurve, readSamples, type LatencyCurve, type ProfileSample } from "./latency-curve.js";
import {
  readBackends,
  readQueueSweeps,
  readRounds,
  readValidation,
  type ProfileBackend,
  type ProfileQueueSweep,
  type ProfileRound,
  type ProfileValidation,
} from "./profile-evidence.js";
import { readReaderTuning, type ReaderTuning } from "./reader-tuning.js";

/** The profile format that this package reads and writes. */
export const DEVICE_PROFILE_SCHEMA_VERSION = 1;

/** A free-form fact in a profile. */
export type ProfileValue = string | number | boolean;

/** What the profile was measured with. */
export interface ProfileReader {
  /** Name of the I/O backend, such as `pool`. */
  readonly backend: string;
  /** Whether reads bypassed the page cache. */
  readonly directIo: boolean;
  /** Reader threads, at least 1. */
  readonly threads: number;
  /** Alignment of offsets and lengths, bytes, at least 1. */
  readonly alignmentBytes: number;
  /** How to drive this device. */
  readonly tuning?: ReaderTuning;
}

/** Identity of the storage behind a profile. All optional: what can be known differs by system. */
export interface ProfileDevice {
  readonly model?: string;
  readonly firmware?: string;
  readonly serial?: string;
  readonly link?: string;
  readonly fileSystem?: string;
  readonly mountOptions?: string;
  readonly kernel?: string;
  readonly [fact: string]: ProfileValue | undefined;
}

/** How noisy the measurement was, by name, such as `relativeSpread`. */
export type ProfileNoise = Readonly<Record<string, number>>;

/**
 * What a device's reads cost, as stored on disk: version 1 of `schema/device-profile.schema.json`.
 * {@link parseDeviceProfile} is the way in for anything that comes from a file.
 */
export interface DeviceProfile {
  readonly schemaVersion: 1;
  /** Short name, for reports. */
  readonly name: string;
  /** `measured` on a device, or `modelled` from figures. */
  readonly origin: "measured" | "modelled";
  /** Where the numbers come from. */
  readonly source: string;
  /** ISO 8601 time with zone, such as `2025-11-20T16:00:00Z`. */
  readonly createdAt?: string;
  readonly reader?: ProfileReader;
  readonly device?: ProfileDevice;
  /** Samples of `T[s]`: time per read of `s` bytes at saturating throughput (paper App. D). */
  readonly table: LatencyCurve;
  /** Smallest size at 99 % of peak throughput, bytes; within the range of `table.sizesBytes`. */
  readonly saturationBytes: number;
  /** Slope past saturation, ns per byte: `T[s] = s * tailNsPerByte`. */
  readonly tailNsPerByte: number;
  readonly noise?: ProfileNoise;
  /** Raw measurements behind `table`. */
  readonly samples?: readonly ProfileSample[];
  /** Every backend measured, the chosen one included. */
  readonly backends?: readonly ProfileBackend[];
  /** What depth is worth, by backend and read size. */
  readonly queue?: readonly ProfileQueueSweep[];
  /** What a batch costs besides the sum of `T[s]`. */
  readonly batchModel?: BatchModelParameters;
  /** How well table and batch model predict masks that were held out of their fits. */
  readonly validation?: ProfileValidation;
  /** How far each round of the measurement was from the others. */
  readonly rounds?: readonly ProfileRound[];
  /** Hash of what the measurement depends on: device, file system, kernel, backend, probe version. */
  readonly key?: string;
  /** Version of the profiler's procedure, an integer of at least 1. */
  readonly probeVersion?: number;
}

const ORIGINS = ["measured", "modelled"] as const;

/**
 * Turns a parsed JSON value of any origin into a profile, or says what is wrong with it.
 *
 * It accepts what `schema/device-profile.schema.json` accepts and then checks what a schema cannot say:
 * ascending sizes and depths, non-decreasing latencies, equal lengths, a saturation size within the samples, no
 * submit batch longer than the queue. Fields unknown to version 1 are ignored and dropped.
 *
 * @param json Result of `JSON.parse`, or any other value. It is not modified or kept.
 * @returns A deep copy that shares no memory with `json`.
 * @throws LatencyModelError `INVALID_PROFILE` whose `path` names the first offending field.
 */
export function parseDeviceProfile(json: unknown): DeviceProfile {
  const root = read.object(json, "profile");
  const version = read.required(root, "schemaVersion", "schemaVersion");
  if (version !== DEVICE_PROFILE_SCHEMA_VERSION) {
    throw read.fieldError(
      "schemaVersion",
      String(DEVICE_PROFILE_SCHEMA_VERSION),
      version,
      "It was written by another version: update this package or profile the device again.",
    );
  }
  const optional = readOptionalParts(root);
  const profile: DeviceProfile = {
    schemaVersion: DEVICE_PROFILE_SCHEMA_VERSION,
    name: read.text(root, "name", "name"),
    origin: read.oneOf(root, "origin", "origin", ORIGINS),
    source: read.text(root, "source", "source"),
    ...optional,
    table: readCurve(read.required(root, "table", "table"), "table"),
    saturationBytes: read.integer(root, "saturationBytes", "saturationBytes", 1),
    tailNsPerByte: read.positive(root, "tailNsPerByte", "tailNsPerByte"),
  };
  checkSaturation(profile);
  return profile;
}

/**
 * {@link parseDeviceProfile} for the text of a profile file.
 *
 * @throws LatencyModelError `INVALID_PROFILE`, also when the text is not JSON.
 */
export function parseDeviceProfileText(text: string): DeviceProfile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new LatencyModelError("INVALID_PROFILE", "Invalid device profile", {
      path: "profile",
      expected: "a JSON document",
      got: text === "" ? "an empty file" : describeValue(text),
      remedy: `${error instanceof Error ? error.message : String(error)}. ${read.PROFILE_REMEDY}`,
    });
  }
  return parseDeviceProfile(json);
}

function checkSaturation({ table, saturationBytes }: DeviceProfile): void {
  const first = table.sizesBytes[0];
  const last = table.sizesBytes[table.sizesBytes.length - 1];
  if (saturationBytes >= first && saturationBytes <= last) return;
  const expected = `between ${first} and ${last}, the sizes in the table`;
  throw read.fieldError("saturationBytes", expected, saturationBytes);
}

type Mandatory =
  "schemaVersion" | "name" | "origin" | "source" | "table" | "saturationBytes" | "tailNsPerByte";

function readOptionalParts(root: read.JsonObject): Omit<DeviceProfile, Mandatory> {
  return {
    ...(read.has(root, "createdAt") && {
      createdAt: read.isoTime(root, "createdAt", "createdAt"),
    }),
    ...(read.has(root, "reader") && { reader: readReader(read.object(root.reader, "reader")) }),
    ...(read.has(root, "device") && { device: readDevice(read.object(root.device, "device")) }),
    ...(read.has(root, "noise") && { noise: readNoise(read.object(root.noise, "noise")) }),
    ...(read.has(root, "samples") && { samples: readSamples(root, "") }),
    ...(read.has(root, "backends") && { backends: readBackends(root) }),
    ...(read.has(root, "queue") && { queue: readQueueSweeps(root) }),
    ...(read.has(root, "batchModel") && {
      batchModel: readBatchParameters(root.batchModel, "batchModel"),
    }),
    ...(read.has(root, "validation") && { validation: readValidation(root.validation) }),
    ...(read.has(root, "rounds") && { rounds: readRounds(root) }),
    ...(read.has(root, "key") && { key: read.text(root, "key", "key") }),
    ...(read.has(root, "probeVersion") && {
      probeVersion: read.integer(root, "probeVersion", "probeVersion", 1),
    }),
  };
}

function readReader(reader: read.JsonObject): ProfileReader {
  return {
    backend: read.text(reader, "backend", "reader.backend"),
    directIo: read.boolean(reader, "directIo", "reader.directIo"),
    threads: read.integer(reader, "threads", "reader.threads", 1),
    alignmentBytes: read.integer(reader, "alignmentBytes", "reader.alignmentBytes", 1),
    ...(read.has(reader, "tuning") && {
      tuning: readReaderTuning(reader.tuning, "reader.tuning"),
    }),
  };
}

/** The facts with a known meaning, which are texts; any other fact may be a number or a boolean too. */
const DEVICE_TEXTS = new Set([
  "model",
  "firmware",
  "serial",
  "link",
  "fileSystem",
  "mountOptions",
  "kernel",
]);

function readDevice(device: read.JsonObject): ProfileDevice {
  const facts = Object.entries(device).map(([fact, value]): [string, ProfileValue] => {
    if (typeof value === "string") return [fact, value];
    const known = DEVICE_TEXTS.has(fact);
    if (!known && typeof value === "boolean") return [fact, value];
    if (!known && typeof value === "number" && Number.isFinite(value)) return [fact, value];
    const expected = known ? "a string" : "a string, a finite number or a boolean";
    throw read.fieldError(`device.${fact}`, expected, value);
  });
  return Object.fromEntries(facts);
}

function readNoise(noise: read.JsonObject): ProfileNoise {
  const figures = Object.entries(noise).map(([figure, value]): [string, number] => {
    if (typeof value === "number" && Number.isFinite(value)) return [figure, value];
    throw read.fieldError(`noise.${figure}`, "a finite number", value);
  });
  return Object.fromEntries(figures);
}
