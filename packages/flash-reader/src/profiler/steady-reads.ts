import { performance } from "node:perf_hooks";
import { LandingBuffer } from "../landing-buffer.js";
import type { ByteRanges } from "../ranges.js";
import type { FlashReader } from "../reader.js";
import type { Effort } from "./effort.js";
import type { Random } from "./random.js";
import { median } from "./statistics.js";

/** Fewest reads of a sample, whatever they cost. */
const MIN_READS = 8;
/** A sample is this many batches, all of them under way at once. */
const BATCHES = 8;
/** Filling and draining the device explains at most this share of a sample. */
const MAX_RAMP_SHARE = 0.15;
/** Where samples start: any block of the file. */
const PLACE_BYTES = 4096;
/** Reads keep a gap of at least this between them, so that no block is wanted twice. */
const GAP_BYTES = 8192;
const FIRST_ESTIMATE_NS = 2e5;
/** A sample takes at most this many times what it should. */
const MAX_SLOWNESS = 8;
/**
 * Landings are whole huge pages, as long ones are anyway: reads into scattered small pages can take twice as
 * long, and what is measured must not depend on what was measured before.
 */
const HUGE_PAGE_BYTES = 2 << 20;

/** A read size through one reader. */
export interface ReadJob {
  readonly reader: FlashReader;
  readonly sizeBytes: number;
  /** How many such reads the reader keeps in flight. */
  readonly inFlight: number;
}

/** How many reads of `sizeBytes` a reader keeps in flight. */
export function readsInFlight({ tuning, backend }: FlashReader, sizeBytes: number): number {
  const most = backend.name === "io_uring" ? tuning.queueDepth : tuning.threads;
  return Math.max(1, Math.min(most, Math.floor(tuning.maxBytesInFlight / sizeBytes)));
}

/**
 * Time per read in the steady state from batches that are read one behind the other, ns: the median slope
 * between the ends of any two (Theil-Sen), so that neither the start from an idle device counts nor
 * one batch with a straggler. Where many batches end out of order, the plain average is taken, which a steady
 * state cannot be far below of and never above.
 *
 * @param counts Reads of each batch.
 * @param endNs When each ended, counted from the start of the first.
 */
export function steadyNs(counts: readonly number[], endNs: readonly number[]): number {
  const ends = counts.map((_, i) => counts.slice(0, i + 1).reduce((sum, n) => sum + n, 0));
  const average = Math.max(...endNs) / ends[ends.length - 1];
  const slopes = endNs.flatMap((end, i) =>
    endNs.slice(0, i).map((earlier, j) => (end - earlier) / (ends[i] - ends[j])),
  );
  if (slopes.length === 0) return average;
  const slope = median(slopes);
  return slope <= average && slope >= (1 - MAX_RAMP_SHARE) * average ? slope : average;
}

/** The same ranges as equal batches. */
function batchesOf({ offsetsBytes, lengthsBytes, count }: ByteRanges): ByteRanges[] {
  const batches = Math.min(BATCHES, count);
  return Array.from({ length: batches }, (_, i) => {
    const from = Math.floor((i * count) / batches);
    const to = Math.floor(((i + 1) * count) / batches);
    return {
      offsetsBytes: offsetsBytes.subarray(from, to),
      lengthsBytes: lengthsBytes.subarray(from, to),
      count: to - from,
    };
  });
}

/**
 * Measures reads one after the other, with landing memory that is allocated and touched once. Nothing
 * else may use it at the same time.
 */
export class SteadyReads {
  readonly #landings: (LandingBuffer | undefined)[] = [];

  constructor(
    readonly effort: Effort,
    readonly random: Random,
    readonly signal: AbortSignal | undefined,
  ) {}

  /** A candidate that measures `job` again and again, each time at other places of the file. */
  candidate(job: ReadJob): () => Promise<number> {
    let estimateNs = FIRST_ESTIMATE_NS;
    return async () => {
      estimateNs = await this.nsPerRead(job, estimateNs);
      return estimateNs;
    };
  }

  /** Time per read while the device is busy with such reads, ns: see `steadyNs`. */
  async nsPerRead(job: ReadJob, estimateNs: number): Promise<number> {
    const { reader } = job;
    const batches = batchesOf(this.#spread(job, this.#readCount(job, estimateNs)));
    const landings = batches.map((ranges, slot) => this.landing(slot, reader, ranges));
    const startedNs: number[] = [];
    const results = await Promise.all(
      batches.map((ranges, slot) => {
        const result = reader.read(ranges, {
          into: landings[slot],
          readThrough: false,
          ...(this.signal && { signal: this.signal }),
        });
        startedNs.push(performance.now() * 1e6);
        return result;
      }),
    );
    return steadyNs(
      batches.map(({ count }) => count),
      results.map((result, slot) => startedNs[slot] + result.elapsedNs - startedNs[0]),
    );
  }

  /** Time of one batch that starts on an idle device, ns. */
  async batchNs(reader: FlashReader, ranges: ByteRanges, readThrough = true): Promise<number> {
    const result = await reader.read(ranges, {
      into: this.landing(0, reader, ranges),
      readThrough,
      ...(this.signal && { signal: this.signal }),
    });
    return result.elapsedNs;
  }

  /** Memory for `ranges`; each slot is one read at a time. */
  landing(slot: number, reader: FlashReader, ranges: ByteRanges): LandingBuffer {
    const neededBytes = reader.landingBytes(ranges);
    const found = this.#landings[slot];
    if (found !== undefined && found.capacityBytes >= neededBytes) return found;
    const landing = new LandingBuffer(Math.ceil(neededBytes / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES);
    // First touch is the kernel's work, not the device's.
    landing.bytes.fill(1);
    this.#landings[slot] = landing;
    return landing;
  }

  #readCount(job: ReadJob, estimateNs: number): number {
    const { sampleNs, sampleReads } = this.effort;
    // Reads that keep the device busy, unless it is so slow that they would take all the time there is.
    const bearable = Math.ceil((MAX_SLOWNESS * sampleNs) / estimateNs);
    const least = Math.max(MIN_READS, Math.min(2 * job.inFlight, bearable));
    const wanted = Math.max(least, Math.round(sampleNs / estimateNs));
    return this.#affordable(job, Math.min(wanted, Math.max(sampleReads, least)));
  }

  #affordable({ reader, sizeBytes }: ReadJob, count: number): number {
    const inMemory = Math.floor(this.effort.sampleBytes / sizeBytes);
    const inFile = Math.floor(reader.sizeBytes / (sizeBytes + Math.max(sizeBytes, GAP_BYTES)));
    return Math.max(1, Math.min(count, Math.max(MIN_READS, inMemory), inFile));
  }

  /**
   * Reads all over the file, in ascending order with random gaps, none of them small. Places are
   * multiples of the size, as those of rows would be: sizes that are no multiple of a block pay for
   * being widened.
   */
  #spread({ reader, sizeBytes }: ReadJob, count: number): ByteRanges {
    const slots = Math.floor(reader.sizeBytes / sizeBytes);
    const stride = Math.floor(slots / count);
    const half = Math.max(1, Math.floor(stride / 2));
    const shift = this.random.below(half);
    const offsetsBytes = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      offsetsBytes[i] = (i * stride + shift + this.random.below(half)) * sizeBytes;
    }
    return { offsetsBytes, lengthsBytes: new Float64Array(count).fill(sizeBytes), count };
  }

  /** A place for `lengthBytes` bytes, at a multiple of `multipleBytes`. */
  place(reader: FlashReader, lengthBytes: number, multipleBytes = PLACE_BYTES): number {
    const places = Math.floor((reader.sizeBytes - lengthBytes) / multipleBytes) + 1;
    return this.random.below(places) * multipleBytes;
  }
}
