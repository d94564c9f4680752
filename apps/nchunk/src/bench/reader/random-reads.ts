import type { ByteRanges, FlashReader, LandingBuffer } from "@neuron-chunking/flash-reader";
import { NchunkError } from "../../errors";

/** "A few hundred reads a batch" (FLASH_IO.md R1), fewer when they are large. */
const MAX_BATCH_READS = 256;
const MAX_BATCH_BYTES = 64 * 2 ** 20;
/** The reader works on one batch while the next is already queued: sustained, as fio's reads are. */
const BATCHES_IN_FLIGHT = 2;
const MIN_BATCHES = 4;

export const batchReads = (sizeBytes: number): number =>
  Math.max(1, Math.min(MAX_BATCH_READS, Math.floor(MAX_BATCH_BYTES / sizeBytes)));

/** Draws places of equal reads in a file, none twice in a batch: the reader would fetch it once only. */
export class RandomPlaces {
  readonly #slots: Uint32Array;
  readonly #uniform: () => number;

  constructor(
    fileBytes: number,
    readonly sizeBytes: number,
    uniform: () => number,
  ) {
    this.#slots = Uint32Array.from({ length: Math.floor(fileBytes / sizeBytes) }, (_, i) => i);
    this.#uniform = uniform;
  }

  /** Fills the first `count` offsets, bytes; multiples of the size. */
  draw(offsetsBytes: Float64Array, count: number): void {
    const slots = this.#slots;
    for (let i = 0; i < count; i += 1) {
      const j = i + Math.floor(this.#uniform() * (slots.length - i));
      const slot = slots[j];
      slots[j] = slots[i];
      slots[i] = slot;
      offsetsBytes[i] = slot * this.sizeBytes;
    }
  }
}

interface Batch {
  readonly ranges: ByteRanges;
  readonly landing: LandingBuffer;
}

/** Random reads of one size by our reader, with memory that is allocated once. */
export class RandomReads {
  readonly sizeBytes: number;
  readonly #reader: FlashReader;
  readonly #places: RandomPlaces;
  readonly #batches: readonly Batch[];

  constructor(reader: FlashReader, places: RandomPlaces, landings: readonly LandingBuffer[]) {
    this.sizeBytes = places.sizeBytes;
    this.#reader = reader;
    this.#places = places;
    const slots = Math.floor(reader.sizeBytes / this.sizeBytes);
    const count = Math.min(batchReads(this.sizeBytes), slots);
    this.#batches = landings.map((landing) => ({
      landing,
      ranges: {
        offsetsBytes: new Float64Array(count),
        lengthsBytes: new Float64Array(count).fill(this.sizeBytes),
        count,
      },
    }));
  }

  /**
   * Time of one read, ns: of enough batches to take about `targetNs` in all.
   *
   * @param expectedNs About what one read takes.
   */
  async measureNs(targetNs: number, expectedNs: number, signal: AbortSignal): Promise<number> {
    const { count } = this.#batches[0].ranges;
    const batches = Math.max(MIN_BATCHES, Math.round(targetNs / (count * expectedNs)));
    const startedAt = process.hrtime.bigint();
    const inFlight = this.#batches.map((batch) => this.#begin(batch, signal));
    try {
      for (let begun = inFlight.length; begun < batches; begun += 1) {
        const turn = begun % inFlight.length;
        await inFlight[turn];
        inFlight[turn] = this.#begin(this.#batches[turn], signal);
      }
    } finally {
      await Promise.allSettled(inFlight);
    }
    await Promise.all(inFlight);
    return Number(process.hrtime.bigint() - startedAt) / (batches * count);
  }

  #begin(batch: Batch, signal: AbortSignal): Promise<void> {
    const reading = this.#read(batch, signal);
    // It may fail while another batch is awaited; whoever awaits this one sees the error.
    reading.catch(() => undefined);
    return reading;
  }

  async #read({ ranges, landing }: Batch, signal: AbortSignal): Promise<void> {
    this.#places.draw(ranges.offsetsBytes, ranges.count);
    const { bytesRead, bytesWanted } = await this.#reader.read(ranges, {
      into: landing,
      signal,
      readThrough: false,
    });
    if (bytesRead < bytesWanted) {
      throw new NchunkError(
        "BENCH_FAILED",
        `A batch of ${bytesWanted} bytes brought only ${bytesRead}: this is a bug, please report it.`,
      );
    }
  }
}

/** Two landing buffers that hold a batch of any of these sizes; touched, so that no page fault is timed. */
export function allocateLandings(
  reader: FlashReader,
  sizesBytes: readonly number[],
): LandingBuffer[] {
  const capacityBytes = Math.max(
    ...sizesBytes.map((sizeBytes) => {
      const count = batchReads(sizeBytes);
      return reader.landingBytesBound(count, count * sizeBytes);
    }),
  );
  return Array.from({ length: BATCHES_IN_FLIGHT }, () => {
    const landing = reader.allocate(capacityBytes);
    landing.bytes.fill(1);
    return landing;
  });
}
