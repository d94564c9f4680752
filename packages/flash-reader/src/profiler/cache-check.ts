import { open } from "node:fs/promises";
import type { LatencyCurve } from "@neuron-chunking/latency-model";
import { FlashReaderError } from "../errors.js";
import { cachedBytes } from "./extents.js";

/** No storage that we know of is faster, and memory is not slower. */
const MEMORY_BYTES_PER_SECOND = 30e9;
/** What other processes may do to the page cache of the probe file: it is compared with itself before use. */
const CACHE_GROWTH_BYTES = 4 << 20;

/** A reason to believe that a cache answered instead of the device (P2). */
export interface CacheSuspicion {
  readonly message: string;
  readonly expected: number;
  readonly got: number;
}

/** A table that is faster than the link, or than any storage where the link is not known. */
export function tooFast(
  { sizesBytes, latencyNs }: LatencyCurve,
  linkBytesPerSecond: number | undefined,
): CacheSuspicion | undefined {
  const rates = sizesBytes.map((size, i) => (size / latencyNs[i]) * 1e9);
  const got = Math.max(...rates);
  const expected = linkBytesPerSecond ?? MEMORY_BYTES_PER_SECOND;
  if (got <= expected) return undefined;
  const limit = linkBytesPerSecond === undefined ? "any storage does" : "the device's link can";
  return {
    message: `reads bring ${inGigabytes(got)}, more than ${limit} (${inGigabytes(expected)})`,
    expected,
    got,
  };
}

/** A page cache that holds more of the file after it was read past that cache. */
export function cacheGrew(
  before: number | undefined,
  after: number | undefined,
): CacheSuspicion | undefined {
  if (before === undefined || after === undefined) return undefined;
  const expected = before + CACHE_GROWTH_BYTES;
  if (after <= expected) return undefined;
  return {
    message: `the page cache held ${before} bytes of the probe file before and ${after} after it was read`,
    expected,
    got: after,
  };
}

export function notTheDevice(path: string, suspicion: CacheSuspicion): FlashReaderError {
  return new FlashReaderError(
    "DIRECT_IO_UNSUPPORTED",
    `The profile of ${path} was measured twice and rejected both times, because a cache answered instead ` +
      `of the device: ${suspicion.message}. Choose a directory on another file system, or measure the ` +
      'page cache knowingly with directIo: "disabled".',
    { path, expected: suspicion.expected, got: suspicion.got },
  );
}

/** Bytes of the file at `path` in the page cache; undefined where the system does not say. */
export async function cachedBytesOf(path: string): Promise<number | undefined> {
  const file = await open(path, "r");
  try {
    return await cachedBytes(file);
  } finally {
    await file.close();
  }
}

const inGigabytes = (bytesPerSecond: number): string => `${(bytesPerSecond / 1e9).toFixed(1)} GB/s`;
