import { selectedRows } from "@neuron-chunking/latency-model";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { AHEAD } from "./backend/compute-backend.js";
import type { StreamedRows, StreamLanding } from "./backend/compute-backend.js";
import type { PlanReads } from "./plan-reads.js";
import type { PresentRows } from "./prefetch/plan-difference.js";
import type { Prefetcher, PrefetchTotals } from "./prefetch/prefetcher.js";
import { nowNs } from "./trace.js";
import type { Phase } from "./trace.js";

/** What the rows of one plan cost. */
export interface SupplyTotals {
  bytesWanted: number;
  bytesRead: number;
  /** Time in which at least one read was under way. */
  readNs: number;
  /** Bytes of rows that were read before the plan was known, and those of them that it has. */
  bytesAhead: number;
  bytesAheadUsed: number;
}

/** Who foretells plans, and where what is foretold lands: one lane while the other is multiplied. */
export interface ReadingAhead {
  readonly prefetcher: Prefetcher;
  readonly lanes: readonly [PlanReads, PlanReads];
  /** Bytes of rows, with what alignment adds to each chunk, that fit a lane in any case. */
  readonly laneBytes: number;
}

/** What a plan's rows are wanted for. */
export interface WantedFor {
  /** That they are multiplied with. */
  readonly tokens: number;
  /** Without it nothing is foretold. */
  readonly phase: Phase | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Rows that are being read for the matrix whose plan is expected next. */
interface Expected {
  readonly info: BundleInfo;
  readonly lane: PlanReads;
  readonly plan: ChunkPlan;
}

const NO_ROWS: ChunkPlan = {
  starts: new Uint32Array(0),
  lengths: new Uint32Array(0),
  chunkCount: 0,
};

/**
 * Brings the rows of a plan: those that were read ahead for it, and the rest on demand. When that has been read, and while it is
 * still multiplied, it reads ahead for the matrix that comes next (DESIGN.md, 9). One plan at a time.
 */
export class RowSupply implements StreamedRows {
  readonly totals: SupplyTotals = {
    bytesWanted: 0,
    bytesRead: 0,
    readNs: 0,
    bytesAhead: 0,
    bytesAheadUsed: 0,
  };
  readonly window: number;
  starts: Uint32Array;
  lengths: Uint32Array;
  slices: Uint32Array;
  offsetsBytes: Float64Array;
  pieceCount = 0;
  private readonly mixed: MixedPieces | undefined;
  private used: PlanReads | null = null;
  private expected: Expected | null = null;
  /** Whose plan is being read, and in which phase, where something follows that may be foretold. */
  private current: { readonly info: BundleInfo; readonly phase: Phase } | null = null;
  private readsEndedNs = nowNs();
  /** What `totals` has told so far of the prefetcher's. */
  private told: PrefetchTotals = { bytesAhead: 0, bytesUsed: 0 };

  /**
   * @param maxRows rows of the largest matrix
   * @param ahead without it nothing is read ahead
   */
  constructor(
    private readonly demanded: PlanReads,
    maxRows: number,
    private readonly readingAhead?: ReadingAhead,
  ) {
    this.window = demanded.window;
    if (readingAhead !== undefined) this.mixed = new MixedPieces(maxRows);
    ({
      starts: this.starts,
      lengths: this.lengths,
      slices: this.slices,
      offsetsBytes: this.offsetsBytes,
    } = demanded);
  }

  get demand(): StreamLanding {
    return this.demanded;
  }
  get ahead(): StreamLanding | null {
    return this.used;
  }

  /**
   * Starts reading `plan`, which has rows; `end` or `abandon` must come before the next.
   *
   * @throws FlashReaderError; or a rejection with it
   */
  begin(info: BundleInfo, plan: ChunkPlan, wanted: WantedFor): Promise<void> | undefined {
    const { totals } = this;
    totals.bytesWanted = selectedRows(plan) * info.rowBytes;
    totals.bytesAhead = totals.bytesAheadUsed = totals.bytesRead = totals.readNs = 0;
    const { readingAhead } = this;
    const { phase } = wanted;
    if (readingAhead !== undefined && phase !== undefined) {
      return this.beginForetold(readingAhead, phase, info, plan, wanted);
    }
    if (this.expected !== null) {
      return this.take(info).then(() => {
        this.beginUnforetold(info, plan, wanted);
      });
    }
    this.beginUnforetold(info, plan, wanted);
    return undefined;
  }

  private beginUnforetold(info: BundleInfo, plan: ChunkPlan, wanted: WantedFor): void {
    this.readDemanded(info, plan, wanted);
    this.show(this.demanded);
  }

  private async beginForetold(
    { prefetcher }: ReadingAhead,
    phase: Phase,
    info: BundleInfo,
    plan: ChunkPlan,
    wanted: WantedFor,
  ): Promise<void> {
    const { totals } = this;
    const expected = await this.take(info);
    const idleNs = nowNs() - this.readsEndedNs;
    const known = expected?.plan ?? NO_ROWS;
    const { present, missing } = prefetcher.difference(info, plan, known, phase, idleNs);
    this.used = expected?.lane ?? null;
    this.current = { info, phase };
    // What was given up since the last plan is in it, too.
    const { bytesAhead, bytesUsed } = prefetcher.totals;
    totals.bytesAhead = bytesAhead - this.told.bytesAhead;
    totals.bytesAheadUsed = bytesUsed - this.told.bytesUsed;
    this.told = { bytesAhead, bytesUsed };
    this.readDemanded(info, missing, wanted);
    if (expected === null) this.show(this.demanded);
    else this.show(this.mixed!.mix(this.demanded, expected.lane, present, info.rowBytes));
  }

  /**
   * Nothing lands any more of what `begin` started when it returns, or when what it returns resolves.
   *
   * @throws what the reader stopped with; or a rejection
   */
  end(): Promise<void> | undefined {
    const { used, demanded, current } = this;
    if (used !== null || current !== null) return this.endForetold();
    const ending = demanded.end();
    if (ending === undefined) this.count(demanded);
    return ending?.then(() => {
      this.count(demanded);
    });
  }

  private count({ totals }: PlanReads): void {
    this.totals.bytesRead += totals.bytesRead;
    this.totals.readNs += totals.readNs;
  }

  private async endForetold(): Promise<void> {
    const { used, demanded, current } = this;
    // What was demanded may turn out to be read only now: then it is time to read ahead.
    const ends = await Promise.allSettled([ended(demanded), ended(used)]);
    this.used = this.current = null;
    for (const end of ends) {
      if (end.status === "rejected") throw end.reason;
    }
    this.count(demanded);
    if (used !== null) this.count(used);
    if (current !== null) this.readingAhead?.prefetcher.done(current.info, current.phase);
  }

  /** Ends everything, whatever came of it: nothing is in flight any more, and nothing is foretold. */
  async abandon(): Promise<void> {
    this.readingAhead?.prefetcher.abandon();
    const { expected } = this;
    this.expected = this.current = null;
    await Promise.allSettled([ended(this), ended(expected?.lane)]);
  }

  private readDemanded(info: BundleInfo, plan: ChunkPlan, { tokens, signal }: WantedFor): void {
    const { offsetBytes, rowBytes } = info;
    if (plan.chunkCount === 0) {
      this.demanded.beginNone();
      this.readAhead();
      return;
    }
    const layout = { baseOffsetBytes: offsetBytes, rowBytes };
    if (this.current === null) {
      this.demanded.begin(plan, layout, { signal, tokens });
      return;
    }
    const onRead = (): void => {
      this.readsEndedNs = nowNs();
      this.readAhead();
    };
    this.demanded.begin(plan, layout, { signal, tokens, onRead });
  }

  /** Starts on what the next matrix will probably need. */
  private readAhead(): void {
    const { readingAhead, current } = this;
    if (readingAhead === undefined || current === null || this.expected !== null) return;
    const { prefetcher, lanes, laneBytes } = readingAhead;
    const info = prefetcher.follower(current.info);
    if (info === undefined) return;
    const plan = prefetcher.predict(info, current.phase, laneBytes);
    if (plan.chunkCount === 0) return;
    const lane = this.used === lanes[0] ? lanes[1] : lanes[0];
    lane.begin(plan, { baseOffsetBytes: info.offsetBytes, rowBytes: info.rowBytes });
    this.expected = { info, lane, plan };
  }

  /** What was read ahead for `info`; anything else that was is given up. */
  private async take(info: BundleInfo): Promise<Expected | null> {
    const { expected } = this;
    this.expected = null;
    if (expected === null || expected.info === info) return expected;
    await ended(expected.lane).catch(() => undefined);
    return null;
  }

  private show(
    pieces: Pick<StreamedRows, "starts" | "lengths" | "slices" | "offsetsBytes" | "pieceCount">,
  ): void {
    this.starts = pieces.starts;
    this.lengths = pieces.lengths;
    this.slices = pieces.slices;
    this.offsetsBytes = pieces.offsetsBytes;
    this.pieceCount = pieces.pieceCount;
  }
}

/** What ends, whether it throws or rejects. */
async function ended(
  reads: { end(): Promise<void> | undefined } | null | undefined,
): Promise<void> {
  await reads?.end();
}

/** Pieces of two streams in the order of their rows; a workspace. */
class MixedPieces {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  readonly slices: Uint32Array;
  readonly offsetsBytes: Float64Array;
  pieceCount = 0;

  constructor(maxRows: number) {
    this.starts = new Uint32Array(maxRows);
    this.lengths = new Uint32Array(maxRows);
    this.slices = new Uint32Array(maxRows);
    this.offsetsBytes = new Float64Array(maxRows);
  }

  /** All pieces of `demanded`, and those parts of the pieces of `lane` that are `present`. */
  mix(demanded: PlanReads, lane: PlanReads, present: PresentRows, rowBytes: number): this {
    this.pieceCount = 0;
    let next = 0;
    let piece = 0;
    for (let c = 0; c < present.chunkCount; c++) {
      const end = present.starts[c] + present.lengths[c];
      for (let row = present.starts[c]; row < end;) {
        while (lane.starts[piece] + lane.lengths[piece] <= row) piece++;
        const to = Math.min(end, lane.starts[piece] + lane.lengths[piece]);
        while (next < demanded.pieceCount && demanded.starts[next] < row) {
          this.add(demanded, next, demanded.starts[next], demanded.lengths[next], 0, rowBytes);
          next++;
        }
        this.add(lane, piece, row, to - row, AHEAD, rowBytes);
        row = to;
      }
    }
    for (; next < demanded.pieceCount; next++) {
      this.add(demanded, next, demanded.starts[next], demanded.lengths[next], 0, rowBytes);
    }
    return this;
  }

  private add(
    from: PlanReads,
    piece: number,
    start: number,
    rows: number,
    mark: number,
    rowBytes: number,
  ): void {
    const to = this.pieceCount++;
    this.starts[to] = start;
    this.lengths[to] = rows;
    this.slices[to] = from.slices[piece] + mark;
    this.offsetsBytes[to] = from.offsetsBytes[piece] + (start - from.starts[piece]) * rowBytes;
  }
}
