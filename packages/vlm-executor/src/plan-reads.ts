import { setMaxListeners } from "node:events";
import type {
  FlashReader,
  LandingBuffer,
  PlanLayout,
  ReadResult,
} from "@neuron-chunking/flash-reader";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import { slicesTogether } from "./plan-slices.js";
import type { PlanSlicer } from "./plan-slices.js";
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
  /** Settles without error, whatever came of the read. */
  ended: Promise<void>;
  result: ReadResult | null;
  failure: unknown;
}

/**
 * Reads a plan slice by slice into a ring of landing buffers, as far ahead as they reach, and gives the rows away
 * in order when they have landed, several slices at a time (`slicesTogether`).
 */
export class PlanReads {
  readonly totals: ReadTotals = { bytesWanted: 0, bytesRead: 0, readNs: 0 };
  private readonly slots: readonly Slot[];
  /** All landings lie in it. */
  private readonly memory: Uint8Array;
  private readonly offsetsBytes: Float64Array;
  private layout: PlanLayout = { baseOffsetBytes: 0, rowBytes: 1 };
  /** Stops this plan's reads: with the caller's signal, or when there is no use for them any more. */
  private stop = new AbortController();
  private unfollow = (): void => undefined;
  /** Slices given away and released; given away; submitted. Slice `i` is in slot `i % slots`. */
  private released = 0;
  private given = 0;
  private submitted = 0;
  /** Times that slices were given away. */
  private products = 0;
  private tokens = 0;
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
      ended: Promise.resolve(),
      result: null,
      failure: undefined,
    }));
    this.memory = new Uint8Array(landings[0].bytes.buffer);
    this.offsetsBytes = new Float64Array(slicer.starts.length);
  }

  /**
   * Starts reading `plan`, to be multiplied with `tokens` inputs. Nothing of a plan before may be under way (see
   * `drain`).
   */
  begin(
    plan: ChunkPlan,
    layout: PlanLayout,
    tokens: number,
    signal: AbortSignal | undefined,
  ): void {
    Object.assign(this.totals, { bytesWanted: 0, bytesRead: 0, readNs: 0 });
    this.layout = layout;
    this.tokens = tokens;
    this.stop = new AbortController();
    // Every read under way listens; the caller's signal has one listener only.
    setMaxListeners(this.slots.length, this.stop.signal);
    if (signal !== undefined) this.follow(signal);
    this.released = this.given = this.submitted = this.products = 0;
    this.slicer.cut(plan, layout.rowBytes);
    this.readAhead();
  }

  /**
   * Waits for the next slices and gives their rows away; `null` after the last. They are valid until `release`,
   * which must come before the next call.
   *
   * @throws what the reader rejected with
   */
  async next(): Promise<LandedRows | null> {
    const { starts, lengths, count } = this.slicer;
    if (this.given === count) return null;
    const from = this.firstPiece(this.given);
    const end = this.given + slicesTogether(this.products++, this.given, count, this.tokens);
    while (this.given < end) {
      await this.slot(this.given).ended;
      this.take(this.given++);
    }
    const to = this.firstPiece(end);
    return {
      starts: starts.subarray(from, to),
      lengths: lengths.subarray(from, to),
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

  /**
   * Stops the reads that are still under way and waits for their end. Whatever ended a plan, its landings are not free
   * before.
   */
  async drain(): Promise<void> {
    this.unfollow();
    if (this.underWay > 0) this.stop.abort();
    for (const slot of this.slots) await slot.ended;
  }

  private follow(signal: AbortSignal): void {
    const { stop } = this;
    const onAbort = (): void => {
      stop.abort(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    this.unfollow = () => {
      signal.removeEventListener("abort", onAbort);
    };
    if (signal.aborted) onAbort();
  }

  private slot(index: number): Slot {
    return this.slots[index % this.slots.length];
  }

  private firstPiece(slice: number): number {
    return slice === 0 ? 0 : this.slicer.ends[slice - 1];
  }

  private readAhead(): void {
    const { count } = this.slicer;
    while (this.submitted < count && this.submitted - this.released < this.slots.length) {
      this.read(this.submitted++);
    }
  }

  private read(slice: number): void {
    const from = this.firstPiece(slice);
    const to = this.firstPiece(slice + 1);
    const slot = this.slot(slice);
    const plan = {
      starts: this.slicer.starts.subarray(from, to),
      lengths: this.slicer.lengths.subarray(from, to),
      chunkCount: to - from,
    };
    const options = { into: slot.landing, signal: this.stop.signal };
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
  private take(slice: number): void {
    const { landing, result, failure } = this.slot(slice);
    if (result === null) throw failure;
    this.totals.bytesWanted += result.bytesWanted;
    this.totals.bytesRead += result.bytesRead;
    const base = landing.bytes.byteOffset;
    const from = this.firstPiece(slice);
    for (let i = 0; i < result.count; i++) {
      this.offsetsBytes[from + i] = base + result.viewOffsetsBytes[i];
    }
  }
}
