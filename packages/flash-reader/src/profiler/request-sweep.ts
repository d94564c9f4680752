import type { ReaderBackendName, ReaderTuning } from "@neuron-chunking/latency-model";
import type { FlashReader } from "../reader.js";
import { sweepRounds } from "./bench.js";
import type { Bench, OnFraction } from "./bench.js";
import { interleave, largestNearBest, typicalNs } from "./interleave.js";

const KIB = 1024;
const LEAST_BYTES = 128 * KIB;
/** Longer reads are always split (R3). */
const MOST_BYTES = 1024 * KIB;
const RANGE_BYTES = 4096 * KIB;

/**
 * @internal Powers of two, and what the kernel hands to the device in one piece; at most half of what may
 * be in flight, so that the device always has a next one.
 */
export function requestSizes(
  deviceMaxBytes: number | undefined,
  maxBytesInFlight = Infinity,
): number[] {
  const sizes = [LEAST_BYTES, 256 * KIB, 512 * KIB, MOST_BYTES];
  const fits = deviceMaxBytes !== undefined && deviceMaxBytes % 4096 === 0;
  if (fits && deviceMaxBytes > LEAST_BYTES && deviceMaxBytes < MOST_BYTES)
    sizes.push(deviceMaxBytes);
  const most = Math.max(LEAST_BYTES, maxBytesInFlight / 2);
  return [...new Set(sizes)].filter((size) => size <= most).sort((a, b) => a - b);
}

/**
 * The longest request within 3 % of the best at reading long contiguous ranges, each batch from an idle
 * device: parts that are too long leave it idle at the ends, parts that are too short cost requests.
 */
export async function sweepRequestBytes(
  bench: Bench,
  backend: ReaderBackendName,
  tuning: Partial<ReaderTuning>,
  deviceMaxBytes: number | undefined,
  onFraction: OnFraction,
): Promise<number> {
  const { readers, reads, effort, random } = bench;
  const sizes = requestSizes(deviceMaxBytes, tuning.maxBytesInFlight);
  const opened: FlashReader[] = [];
  for (const maxRequestBytes of sizes) {
    opened.push(await readers.open({ ...tuning, maxRequestBytes }, backend));
  }
  const count = Math.max(1, Math.floor(effort.sampleBytes / RANGE_BYTES / 2));
  const candidates = opened.map((reader) => () => {
    const stride = Math.floor(reader.sizeBytes / count);
    const offsetsBytes = Float64Array.from({ length: count }, (_, i) => {
      const room = Math.floor((stride - RANGE_BYTES) / 4096);
      return i * stride - ((i * stride) % 4096) + random.below(Math.max(1, room)) * 4096;
    });
    const lengthsBytes = new Float64Array(count).fill(RANGE_BYTES);
    return reads.batchNs(reader, { offsetsBytes, lengthsBytes, count });
  });
  const samples = await interleave(candidates, { ...sweepRounds(bench), onFraction });
  await readers.close(...opened);
  return largestNearBest(sizes, typicalNs(samples));
}
