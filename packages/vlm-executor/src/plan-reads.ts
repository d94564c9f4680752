import type {
  FlashReader,
  LandingBuffer,
  PlanLayout,
  ReadResult,
} from "@neuron-chunking/flash-reader";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import type { PlanSlicer, Slice } from "./plan-slices.js";
import { nowNs } from "./trace.js";

/** Rows that have landed, in the order of the plan; as {@link LandedChunks}, without what they are rows of. */
export interface LandedRows {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  readonly chunkCount: number;
  readonly bytes: Uint8Array;
  readonly offsetsBytes: Float64Array;
}

/** What a plan's reads have come to so far. */
export interface ReadTotals {
  bytesWanted: number;
  bytesRead: number;
  /** Time in which at least one read was under way. */
  readNs: number;
}

interface Slot {
  readonly landing: LandingBuffer;
  slice: Slice;
  /** Settles without error, whatever came of the read. */
  ended: Promise<void>;
  result: ReadResult | null;
  failure: unknown;
}

const NOTHING: Slice = { first: 0, count: 0 };

/**
 * Reads a plan slice by slice into a ring of landing buffers, as far ahead as they reach, and gives the rows away
 * in order as they land: all that have landed, but never more than half of the ring, so that the other half
 * is read meanwhile. Where reading is the bottleneck, every slice is so taken as it comes; where multiplying is,
 * few large products are made of what has gathered.
 */
export class PlanReads {
  readonly totals: ReadTotals = { bytesWanted: 0, bytesRead: 0, readNs: 0 };
  private readonly slots: readonly Slot[];
  /** All landings lie in it. */
  private readonly memory: Uint8Array;
  private readonly offsetsBytes: Float64Array;
  private layout: PlanLayout = { baseOffsetBytes: 0, rowBytes: 1 };
  private signal: AbortSignal | undefined;
  /** Slices given away and released; given away; submitted. Slice `i` is in slot `i % slots`. */
  private released = 0;
  private given = 0;
  private submitted = 0;
  private underWay = 0;
  private underWaySinceNs = 0;

  /** @param landings parts of one memory, each large enough for any slice of `slicer` */
  constructor(
    private readonly reader: FlashReader,
    private readonly slicer: PlanSlicer,
    landings: readonly LandingBuffer[],
  ) {
    this.slots = landings.map((landing) => ({
      landing,
      slice: NOTHING,
      ended: Promise.resolve(),
      result: null,
      failure: undefined,
    }));
    this.memory = new Uint8Array(landings[0].bytes.buffer);
    this.offsetsBytes = new Float64Array(slicer.starts.length);
  }

  /** Starts reading `plan`. Nothing of a plan before may be under way (see `drain`). */
  begin(plan: ChunkPlan, layout: PlanLayout, signal: AbortSignal | undefined): void {
    Object.assign(this.totals, { bytesWanted: 0, bytesRead: 0, readNs: 0 });
    this.layout = layout;
    this.signal = signal;
    this.released = this.given = this.submitted = 0;
    this.slicer.begin(plan, layout.rowBytes);
    this.readAhead();
  }

  /**
   * Waits for the next slice and gives away the rows that have landed; `null` after the last. They are valid until
   * `release`, which must come before the next call.
   *
   * @throws what the reader rejected with
   */
  async next(): Promise<LandedRows | null> {
    if (this.given === this.submitted) return null;
    const first = this.slot(this.given);
    await first.ended;
    const most = this.given + Math.max(1, this.slots.length >> 1);
    do this.take(this.slot(this.given++));
    while (this.given < Math.min(this.submitted, most) && this.slot(this.given).result !== null);
    const last = this.slot(this.given - 1);
    const from = first.slice.first;
    const to = last.slice.first + last.slice.count;
    return {
      starts: this.slicer.starts.subarray(from, to),
      lengths: this.slicer.lengths.subarray(from, to),
      chunkCount: to - from,
      bytes: this.memory,
      offsetsBytes: this.offsetsBytes.subarray(from, to),
    };
  }

  /** The memory of what `next` gave is free again: more is read into it. */
  release(): void {
    this.released = this.given;
    this.readAhead();
  }

  /** Waits until no read is under way. Whatever ended a plan, its landings are not free before. */
  async drain(): Promise<void> {
    for (const slot of this.slots) await slot.ended;
  }

  private slot(index: number): Slot {
    return this.slots[index % this.slots.length];
  }

  private readAhead(): void {
    while (this.submitted - this.released < this.slots.length) {
      const slice = this.slicer.next();
      if (slice === null) return;
      this.read(this.slot(this.submitted++), slice);
    }
  }

  private read(slot: Slot, slice: Slice): void {
    const { first, count } = slice;
    const plan = {
      starts: this.slicer.starts.subarray(first, first + count),
      lengths: this.slicer.lengths.subarray(first, first + count),
      chunkCount: count,
    };
    const { signal } = this;
    const options = { into: slot.landing, ...(signal === undefined ? {} : { signal }) };
    slot.slice = slice;
    slot.result = null;
    slot.failure = undefined;
    if (this.underWay++ === 0) this.underWaySinceNs = nowNs();
    slot.ended = this.reader.readPlan(plan, this.layout, options).then(
      (result) => {
        slot.result = result;
        this.end();
      },
      (cause: unknown) => {
        slot.failure = cause;
        this.end();
      },
    );
  }

  private end(): void {
    if (--this.underWay === 0) this.totals.readNs += nowNs() - this.underWaySinceNs;
  }

  /** Counts a slice that has ended, and says where its rows lie. */
  private take({ landing, slice, result, failure }: Slot): void {
    if (result === null) throw failure;
    this.totals.bytesWanted += result.bytesWanted;
    this.totals.bytesRead += result.bytesRead;
    const base = landing.bytes.byteOffset;
    for (let i = 0; i < slice.count; i++) {
      this.offsetsBytes[slice.first + i] = base + result.viewOffsetsBytes[i];
    }
  }
}
