import type { ProfileNoise, ProfileSample } from "@neuron-chunking/latency-model";
import type { LandingBuffer } from "../landing-buffer.js";
import type { ByteRanges } from "../ranges.js";
import type { FlashReader } from "../reader.js";
import { median, quantile } from "./latency-fit.js";

/** How much is measured. */
export interface Effort {
  readonly rounds: number;
  /** Bytes of one batch of large reads; small reads are limited by `maxReads`. */
  readonly batchBytes: number;
  readonly maxReads: number;
  /** About how long one batch may take, by the warm-up's estimate: keeps slow devices to the same total. */
  readonly batchNs: number;
  readonly warmUpNs: number;
}

export const QUICK_EFFORT: Effort = {
  rounds: 5,
  batchBytes: 16 << 20,
  maxReads: 384,
  batchNs: 2e7,
  warmUpNs: 2e8,
};
export const THOROUGH_EFFORT: Effort = {
  rounds: 15,
  batchBytes: 48 << 20,
  maxReads: 1536,
  batchNs: 1e8,
  warmUpNs: 3e9,
};

/** A sample this far from its size's median is measured again, once (P2). */
const REPEAT_DEVIATION = 0.2;
/** Samples of one size that are measured again at most: on a busy machine nearly all deviate. */
const MAX_REPEATS = 2;
/** A sample this far from its size's median counts as noisy (P2). */
const FLAG_DEVIATION = 0.03;

export interface MeasureOptions {
  readonly sizesBytes: readonly number[];
  readonly effort: Effort;
  readonly onFraction?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Measurement {
  readonly samples: readonly ProfileSample[];
  readonly noise: ProfileNoise;
}

/**
 * Time per read of each size while the device is saturated with reads of that size (paper App. D):
 * batches of equally spaced reads, all sizes once per round in a new order, other places each round.
 */
export async function measureLatencies(
  reader: FlashReader,
  options: MeasureOptions,
): Promise<Measurement> {
  const { sizesBytes, effort, onFraction } = options;
  const measuring = new Measuring(reader, options);
  await measuring.warmUp();
  const steps = sizesBytes.length * effort.rounds;
  for (let round = 0; round < effort.rounds; round++) {
    const order = measuring.shuffled(sizesBytes.length);
    for (let k = 0; k < order.length; k++) {
      await measuring.sample(order[k]);
      onFraction?.((round * sizesBytes.length + k + 1) / steps);
    }
  }
  const repeated = await measuring.repeatOutliers();
  return { samples: measuring.samples(), noise: measuring.noise(repeated) };
}

class Measuring {
  readonly #reader: FlashReader;
  readonly #options: MeasureOptions;
  readonly #latenciesNs: number[][];
  /** Of the last warm-up read of each size; as if free until then. */
  readonly #estimatesNs: number[];
  readonly #landing: LandingBuffer;
  readonly #ranges: { offsetsBytes: Float64Array; lengthsBytes: Float64Array };
  // Fixed seed: two profiles of one device differ by the device, not by our choices.
  #random = 0x2545f491;

  constructor(reader: FlashReader, options: MeasureOptions) {
    this.#reader = reader;
    this.#options = options;
    const { sizesBytes, effort } = options;
    this.#latenciesNs = sizesBytes.map(() => []);
    this.#estimatesNs = sizesBytes.map(() => 0);
    const most = sizesBytes.map((size, index) => {
      const count = this.#readCount(index);
      return reader.landingBytesBound(count, count * size);
    });
    this.#landing = reader.allocate(Math.max(...most));
    // First touch is the kernel's work, not the device's.
    this.#landing.bytes.fill(1);
    this.#ranges = {
      offsetsBytes: new Float64Array(effort.maxReads),
      lengthsBytes: new Float64Array(effort.maxReads),
    };
  }

  /** Equal shares for every thread, at least four each, so that the last round of reads weighs little. */
  #readCount(index: number): number {
    const { sizesBytes, effort } = this.#options;
    const sizeBytes = sizesBytes[index];
    const { threads, sizeBytes: fileBytes } = this.#reader;
    const affordable = Math.min(
      effort.maxReads,
      Math.floor(effort.batchBytes / sizeBytes),
      Math.floor(effort.batchNs / Math.max(1, this.#estimatesNs[index])),
    );
    // Reads keep a distance of their own size, so that none can be merged.
    const possible = Math.floor(fileBytes / (2 * sizeBytes + 4 * this.#reader.alignmentBytes));
    const count = Math.min(Math.max(4 * threads, affordable), possible, effort.maxReads);
    return Math.max(1, count - (count % threads));
  }

  /** Offsets are multiples of the size, as rows of that size would be: unaligned sizes pay for widening. */
  #place(index: number): ByteRanges {
    const sizeBytes = this.#options.sizesBytes[index];
    const count = this.#readCount(index);
    const slots = Math.floor(this.#reader.sizeBytes / sizeBytes);
    const strideSlots = Math.floor(slots / count);
    const shift = this.#nextRandom() % strideSlots;
    const { offsetsBytes, lengthsBytes } = this.#ranges;
    for (let i = 0; i < count; i++) {
      offsetsBytes[i] = (i * strideSlots + shift) * sizeBytes;
      lengthsBytes[i] = sizeBytes;
    }
    return { offsetsBytes, lengthsBytes, count };
  }

  async #readOnce(index: number): Promise<number> {
    const { signal } = this.#options;
    const ranges = this.#place(index);
    const result = await this.#reader.read(ranges, {
      into: this.#landing,
      ...(signal !== undefined && { signal }),
    });
    return result.elapsedNs / ranges.count;
  }

  /** Every size at least once, to learn how many reads of it the time allows. */
  async warmUp(): Promise<void> {
    const { sizesBytes, effort } = this.#options;
    const until = process.hrtime.bigint() + BigInt(effort.warmUpNs);
    for (let i = 0; i < sizesBytes.length || process.hrtime.bigint() < until; i++) {
      const index = i % sizesBytes.length;
      // A first guess from the next smaller size keeps the first batches of a slow device short.
      if (this.#estimatesNs[index] === 0) {
        this.#estimatesNs[index] = index === 0 ? effort.batchNs : this.#estimatesNs[index - 1];
      }
      this.#estimatesNs[index] = await this.#readOnce(index);
    }
  }

  async sample(index: number): Promise<void> {
    this.#latenciesNs[index].push(await this.#readOnce(index));
  }

  /** One more sample for each that deviates widely; the median then decides. Returns how many. */
  async repeatOutliers(): Promise<number> {
    let repeated = 0;
    for (let index = 0; index < this.#latenciesNs.length; index++) {
      const wide = this.#deviations(index).filter((deviation) => deviation > REPEAT_DEVIATION);
      const again = Math.min(wide.length, MAX_REPEATS);
      for (let i = 0; i < again; i++) await this.sample(index);
      repeated += again;
    }
    return repeated;
  }

  #deviations(index: number): number[] {
    const latencies = this.#latenciesNs[index];
    const middle = median(latencies);
    return latencies.map((latency) => Math.abs(latency - middle) / middle);
  }

  samples(): ProfileSample[] {
    return this.#options.sizesBytes.map((sizeBytes, index) => ({
      sizeBytes,
      latencyNs: this.#latenciesNs[index],
    }));
  }

  /** Shares: 0.05 is 5 %. */
  noise(repeatedSamples: number): ProfileNoise {
    const spreads = this.#latenciesNs.map(
      (latencies) => (quantile(latencies, 0.75) - quantile(latencies, 0.25)) / median(latencies),
    );
    const deviations = this.#latenciesNs.flatMap((_, index) => this.#deviations(index));
    return {
      relativeSpread: median(spreads),
      worstRelativeSpread: Math.max(...spreads),
      flaggedShare: deviations.filter((d) => d > FLAG_DEVIATION).length / deviations.length,
      repeatedSamples,
      rounds: this.#options.effort.rounds,
    };
  }

  shuffled(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.#nextRandom() % (i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  /** xorshift32. */
  #nextRandom(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x >>> 0;
    return this.#random;
  }
}
