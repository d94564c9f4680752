import type {
  ProfileQueueSweep,
  ReaderBackendName,
  ReaderTuning,
} from "@neuron-chunking/latency-model";
import { FlashReaderError } from "../errors.js";
import type { FlashReader } from "../reader.js";
import { sweepRounds } from "./bench.js";
import type { Bench, OnFraction } from "./bench.js";
import {
  interleave,
  isClearlyFaster,
  nearBest,
  smallestNearBest,
  typicalNs,
} from "./interleave.js";
import { readsInFlight } from "./steady-reads.js";

const KIB = 1024;
const SMALL_BYTES = 4 * KIB;
const LARGE_BYTES = 256 * KIB;
const DEPTHS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const THREADS = [1, 2, 4, 6, 8, 12, 16, 24, 32];
const LARGE_DEPTHS = [1, 2, 4, 8, 16, 32, 64];
const LARGE_GROUP = 16;
const GROUPS = [4, 8, 16, 32, 64, 128, 256];
/** One large request alone leaves a device idle between two. */
const MIN_LARGE_IN_FLIGHT = 2;

export interface QueueSettings {
  readonly tuning: Partial<ReaderTuning>;
  /** What each number of requests in flight is worth (R2). */
  readonly queue: readonly ProfileQueueSweep[];
}

/** Times of reads of one size, by setting. */
interface Curve {
  readonly settings: readonly number[];
  readonly timesNs: readonly number[];
  /** [settings][rounds that each took part in], ns. */
  readonly samples: readonly (readonly number[])[];
}

/**
 * How many requests keep the device busy (R2): the smallest depth (io_uring) and number of threads
 * (pool) within 3 % of the best for small reads, the fewest bytes in flight within 3 % for large ones,
 * and the group of requests per io_uring_enter.
 */
export async function sweepQueue(
  bench: Bench,
  backends: readonly ReaderBackendName[],
  onFraction: OnFraction,
): Promise<QueueSettings> {
  const steps = backends.includes("io_uring") ? backends.length + 2 : 2;
  let step = 0;
  const next = (): OnFraction => {
    const before = step++;
    return (fraction) => onFraction((before + fraction) / steps);
  };
  const queue: ProfileQueueSweep[] = [];
  let tuning: Partial<ReaderTuning> = {};
  if (backends.includes("io_uring")) {
    const curve = await sweep(bench, "io_uring", SMALL_BYTES, DEPTHS, next(), (queueDepth) => ({
      queueDepth,
    }));
    queue.push(asQueue("io_uring", SMALL_BYTES, curve));
    tuning = { ...tuning, queueDepth: smallestNearBest(curve.settings, curve.timesNs) };
  }
  if (backends.includes("pool")) {
    const curve = await sweep(bench, "pool", SMALL_BYTES, THREADS, next(), (threads) => ({
      threads,
    }));
    queue.push(asQueue("pool", SMALL_BYTES, curve));
    tuning = { ...tuning, threads: smallestNearBest(curve.settings, curve.timesNs) };
  }
  const [first] = backends;
  const large = await sweep(bench, first, LARGE_BYTES, LARGE_DEPTHS, next(), (depth) => ({
    queueDepth: LARGE_DEPTHS[LARGE_DEPTHS.length - 1],
    threads: LARGE_DEPTHS[LARGE_DEPTHS.length - 1],
    maxBytesInFlight: depth * LARGE_BYTES,
  }));
  queue.push(asQueue(first, LARGE_BYTES, large));
  tuning = { ...tuning, maxBytesInFlight: bytesInFlight(large, tuning) };
  if (backends.includes("io_uring")) {
    const depth = tuning.queueDepth ?? 1;
    const groups = [...GROUPS.filter((group) => group < depth), depth];
    const curve = await sweep(bench, "io_uring", SMALL_BYTES, groups, next(), (submitBatch) => ({
      ...tuning,
      submitBatch,
    }));
    tuning = { ...tuning, submitBatch: chooseGroup(curve) };
  }
  return { tuning, queue };
}

/** @internal Enough for large reads, and not too little for as many small ones as pay off. */
export function bytesInFlight(
  { settings, timesNs }: Pick<Curve, "settings" | "timesNs">,
  { queueDepth = 1, threads = 1 }: Partial<ReaderTuning>,
): number {
  const requests = Math.max(MIN_LARGE_IN_FLIGHT, smallestNearBest(settings, timesNs));
  return Math.max(requests * LARGE_BYTES, Math.max(queueDepth, threads) * SMALL_BYTES);
}

/**
 * @internal The smallest group of requests per io_uring_enter within 3 % of the best: a device starts on a group
 * while the next is prepared. Hundreds of reads should not take more than 20 calls (R2), so groups of less than
 * 16 have to be faster by that much in most of the rounds.
 */
export function chooseGroup({ settings, timesNs, samples }: Curve): number {
  const last = settings.length - 1;
  const isLarge = (group: number): boolean => group >= LARGE_GROUP || group === settings[last];
  const indices = settings.map((_, index) => index);
  const large = indices.filter((index) => isLarge(settings[index]));
  const near = nearBest(large.map((index) => timesNs[index]));
  const chosen = large[near[0]];
  const better = indices.filter(
    (index) => !isLarge(settings[index]) && isClearlyFaster(samples[index], samples[chosen]),
  );
  return settings[better.length > 0 ? better[better.length - 1] : chosen];
}

async function sweep(
  bench: Bench,
  backend: ReaderBackendName,
  sizeBytes: number,
  settings: readonly number[],
  onFraction: OnFraction,
  tuningOf: (setting: number) => Partial<ReaderTuning>,
): Promise<Curve> {
  const opened: { setting: number; reader: FlashReader }[] = [];
  for (const setting of settings) {
    const reader = await bench.readers.tryOpen(tuningOf(setting), backend);
    if (reader !== undefined) opened.push({ setting, reader });
  }
  if (opened.length === 0) {
    throw new FlashReaderError(
      "NO_RESOURCES",
      `No reader of ${bench.readers.path} could be opened with ${backend}. Raise the limits on threads, ` +
        "descriptors and locked memory.",
      { path: bench.readers.path },
    );
  }
  const samples = await interleave(
    opened.map(({ reader }) =>
      bench.reads.candidate({ reader, sizeBytes, inFlight: readsInFlight(reader, sizeBytes) }),
    ),
    { ...sweepRounds(bench), onFraction },
  );
  await bench.readers.close(...opened.map(({ reader }) => reader));
  return { settings: opened.map(({ setting }) => setting), timesNs: typicalNs(samples), samples };
}

function asQueue(backend: string, sizeBytes: number, curve: Curve): ProfileQueueSweep {
  return { backend, sizeBytes, depths: curve.settings, latencyNs: curve.timesNs };
}
