import type {
  FlashReader,
  LandingBuffer,
  PlanLayout,
  SliceRun,
  StreamResult,
} from "@neuron-chunking/flash-reader";
import { SliceRequests } from "@neuron-chunking/flash-reader";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import type {
  Arrivals,
  ComputeBackend,
  StreamedRows,
  StreamLanding,
} from "./backend/compute-backend.js";
import type { PlanSlicer } from "./plan-slices.js";

/** What the reads of a plan have come to. */
export interface ReadTotals {
  bytesRead: number;
  /** Time in which at least one read was under way. */
  readNs: number;
}

/** How a plan is read. */
export interface Reading {
  readonly signal?: AbortSignal | undefined;
  /** That its rows are multiplied with; default 1. */
  readonly tokens?: number;
  /** Called when all of it has been read. */
  readonly onRead?: () => void;
}

/** With so many tokens, multiplying takes about as long as reading, and waits for the first rows count. */
const MANY_TOKENS = 64;
/** What a fast drive needs to be busy (7 GB/s for 0.2 ms), and little to wait for (bench/overlap.mjs). */
const BYTES_UNDER_WAY = 1.5 * 2 ** 20;
const NOTHING_READ: ReadTotals = { bytesRead: 0, readNs: 0 };

/**
 * Reads a plan slice by slice into a ring of landing buffers, as far ahead as they reach, while a product of the backend
 * takes the rows from there and gives their memory back. Neither waits for JavaScript. One plan at a time.
 */
export class PlanReads implements StreamedRows, StreamLanding {
  readonly totals: ReadTotals = { ...NOTHING_READ };
  readonly arrivals: Arrivals;
  readonly ahead = null;
  readonly bytes: Uint8Array;
  readonly window: number;
  private readonly requests = new SliceRequests();
  private run: SliceRun | null = null;
  /** Why there is no run. */
  private refusal: { readonly reason: unknown } | null = null;

  /** @param landings parts of one memory, each large enough for any slice of `slicer` */
  constructor(
    private readonly reader: FlashReader,
    private readonly slicer: PlanSlicer,
    private readonly landings: readonly LandingBuffer[],
    private readonly backend: ComputeBackend,
  ) {
    this.arrivals = backend.createArrivals();
    this.bytes = new Uint8Array(landings[0].bytes.buffer);
    this.window = landings.length;
  }

  get demand(): StreamLanding {
    return this;
  }
  get starts(): Uint32Array {
    return this.slicer.starts;
  }
  get lengths(): Uint32Array {
    return this.slicer.lengths;
  }
  get slices(): Uint32Array {
    return this.slicer.slices;
  }
  get pieceCount(): number {
    return this.slicer.pieceCount;
  }
  get offsetsBytes(): Float64Array {
    return this.requests.offsetsBytes;
  }

  /** Starts reading `plan`, which has rows; `end` must come before the next. */
  begin(plan: ChunkPlan, layout: PlanLayout, { signal, tokens = 1, onRead }: Reading = {}): void {
    const { reader, slicer, landings, requests } = this;
    slicer.cut(plan, layout.rowBytes);
    reader.prepareSlices(slicer, layout, landings, requests);
    const bytesUnderWay = tokens < MANY_TOKENS ? Infinity : BYTES_UNDER_WAY;
    const options = signal === undefined ? { bytesUnderWay } : { bytesUnderWay, signal };
    try {
      this.run = reader.startSlices(requests, this.arrivals.sink, options);
    } catch (reason) {
      this.refusal = { reason };
      return;
    }
    if (onRead !== undefined) void tell(this.run, onRead);
  }

  /** A plan without rows. */
  beginNone(): void {
    this.slicer.clear();
    Object.assign(this.totals, NOTHING_READ);
  }

  /**
   * Nothing lands any more when it returns, or when what it returns resolves. What would have to wait for memory is not read.
   *
   * @throws what the reader stopped with; or a rejection
   */
  end(): Promise<void> | undefined {
    const { run, refusal } = this;
    this.run = this.refusal = null;
    if (refusal !== null) throw refusal.reason;
    if (run === null) return undefined;
    this.backend.finishArrivals(this.arrivals);
    // Rows that were multiplied have been read: then no turn of the event loop is waited for.
    const result = run.ended();
    if (result instanceof Promise) return result.then((late) => this.count(late));
    this.count(result);
    return undefined;
  }

  private count({ bytesRead, readNs }: StreamResult): void {
    this.totals.bytesRead = bytesRead;
    this.totals.readNs = readNs;
  }
}

/** Failures are told by `end`. */
async function tell(run: SliceRun, onRead: () => void): Promise<void> {
  try {
    await run.ended();
  } catch {
    return;
  }
  onRead();
}
