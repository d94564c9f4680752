import { resolve as resolvePath } from "node:path";
import type { ChunkPlan, ReaderTuning } from "@neuron-chunking/latency-model";
import { binding } from "./binding.js";
import type { FaultPlan, NativeFailure, NativeReader } from "./binding.js";
import { describeBackend } from "./backend-info.js";
import type { BackendInfo } from "./backend-info.js";
import { FlashReaderError, fromNative } from "./errors.js";
import { LandingBuffer, requireFree, requireLanding } from "./landing-buffer.js";
import type { LandingSink, StreamOptions, StreamResult } from "./landing-sink.js";
import { RequestPlanner, Views } from "./ranges.js";
import type { ByteRanges, PlanLayout } from "./ranges.js";
import { PendingReads } from "./pending-reads.js";
import { ReadResult } from "./read-result.js";
import { SliceRun } from "./slice-run.js";
import { SliceRequests } from "./slice-requests.js";
import type { PlanSlices } from "./slice-requests.js";
import { completeTuning } from "./tuning.js";

export interface FlashReaderOptions {
  /**
   * `"required"`: past the page cache or a DIRECT_IO_UNSUPPORTED error. `"optional"` (the default):
   * buffered reads where the file system has no direct I/O, said in `backend`. `"disabled"`:
   * buffered.
   */
  readonly directIo?: "required" | "optional" | "disabled";
  /**
   * `"auto"` (the default): what `tuning` names, else io_uring; stepping down to the pool where the
   * system refuses io_uring, said in `reader.backend`. `"io_uring"` and `"pool"`: exactly that, or a
   * BACKEND_UNSUPPORTED error.
   */
  readonly backend?: "auto" | "io_uring" | "pool";
  /** How to drive the device: `reader.tuning` of its profile. What is left open gets moderate defaults. */
  readonly tuning?: Partial<ReaderTuning>;
}

export interface ReadOptions {
  /** Memory to land in; a new one of the right size by default. */
  readonly into?: LandingBuffer;
  /** Stops what is not yet submitted; the promise rejects with the signal's reason once the rest is done. */
  readonly signal?: AbortSignal;
  /**
   * Whether gaps of up to `tuning.readThroughBytes` between ranges may be read through (the default):
   * the same views, fewer requests, at most twice the wanted bytes. A landing buffer that is too small
   * for that is read into without.
   */
  readonly readThrough?: boolean;
}

/** Totals since open; bytes and counts. */
export interface ReaderStats {
  readonly batches: number;
  /** Transfers asked of the device, after merging and splitting. */
  readonly requests: number;
  /** Bytes that callers asked for, in reads that were started. */
  readonly bytesWanted: number;
  /** Bytes that the device delivered, widening to whole blocks included. */
  readonly bytesRead: number;
  /** Interrupted, refused for now or incomplete transfers that were taken up again. */
  readonly retries: number;
  /** Transfers that failed for good. */
  readonly errors: number;
  /** Bytes being transferred at this moment: at most `tuning.maxBytesInFlight`, or one request. */
  readonly bytesInFlight: number;
  /** The most that `bytesInFlight` has been since open. */
  readonly mostBytesInFlight: number;
  /** Calls of io_uring_enter; 0 with the pool. */
  readonly enterCalls: number;
  /** Native memory of this reader: ring and requests under way. V8 knows of it. */
  readonly nativeBytes: number;
  /** Memory of landing buffers of this reader that are not yet collected. */
  readonly landingBytes: number;
}

const DIRECT_IO_MODES = { required: 0, optional: 1, disabled: 2 } as const;
const BACKENDS = { auto: 0, io_uring: 1, pool: 2 } as const;

/**
 * Reads many ranges of one file at once, past the page cache, on threads of its own.
 *
 * Use `open`, `read` or `readPlan` as often as you like (reads may overlap in time), then `close`.
 * The file must not change while it is open: any change found is a FILE_CHANGED error.
 */
export class FlashReader {
  /** Absolute path of the file. */
  readonly path: string;
  /** Size at open; a file that changes later is an error. */
  readonly sizeBytes: number;
  /** Transfers are widened to multiples of this; 1 when buffered. */
  readonly alignmentBytes: number;
  /** How the device is driven; fixed at open. */
  readonly tuning: ReaderTuning;

  readonly #native: NativeReader;
  readonly #askedBackend: keyof typeof BACKENDS;
  readonly #pending: PendingReads;
  readonly #planner: RequestPlanner;
  readonly #scratchViews = new Views();
  readonly #landings = new LandingMemory();
  #bytesWanted = 0;
  #closing: Promise<void> | undefined;

  private constructor(
    path: string,
    tuning: ReaderTuning,
    askedBackend: keyof typeof BACKENDS,
    native: NativeReader,
    pending: PendingReads,
  ) {
    const description = native.describe();
    this.path = path;
    this.tuning = tuning;
    this.#askedBackend = askedBackend;
    this.#native = native;
    this.#pending = pending;
    this.sizeBytes = description.sizeBytes;
    this.alignmentBytes = description.alignmentBytes;
    this.#planner = new RequestPlanner(this, tuning);
  }

  /** How this reader reads, and which better ways were refused. */
  get backend(): BackendInfo {
    return describeBackend(this.#native.describe(), this.#askedBackend);
  }

  /**
   * Opens a regular file. Rejects with OPEN_FAILED, NOT_A_FILE, DIRECT_IO_UNSUPPORTED, IO_ERROR,
   * BACKEND_UNSUPPORTED, NO_RESOURCES or INVALID_ARGUMENT.
   */
  static open(path: string, options: FlashReaderOptions = {}): Promise<FlashReader> {
    return FlashReader.openWithFaults(path, options, undefined);
  }

  /** @internal For tests: as `open`, with faults at the system-call boundary. */
  static async openWithFaults(
    path: string,
    options: FlashReaderOptions,
    faults: FaultPlan | undefined,
  ): Promise<FlashReader> {
    const { directIo = "optional", backend = "auto" } = options;
    if (typeof path !== "string" || path === "" || path.includes("\0")) {
      throw invalid(`path must be a non-empty string without NUL; got ${JSON.stringify(path)}.`);
    }
    if (!Object.hasOwn(DIRECT_IO_MODES, directIo)) {
      throw invalid(
        `directIo must be "required", "optional" or "disabled"; got ${String(directIo)}.`,
      );
    }
    if (!Object.hasOwn(BACKENDS, backend)) {
      throw invalid(`backend must be "auto", "io_uring" or "pool"; got ${String(backend)}.`);
    }
    const tuning = completeTuning(options.tuning);
    const absolute = resolvePath(path);
    const pending = new PendingReads(absolute);
    // Measured slower is as good as refused.
    const asked = backend === "auto" && tuning.backend === "pool" ? "pool" : backend;
    try {
      const native = await binding.openReader(
        absolute,
        DIRECT_IO_MODES[directIo],
        BACKENDS[asked],
        tuning,
        pending.settle,
        faults,
      );
      return new FlashReader(absolute, tuning, asked, native, pending);
    } catch (failure) {
      throw failure instanceof Error ? failure : fromNative(absolute, failure as NativeFailure);
    }
  }

  /** New landing memory of at least `capacityBytes`; see `landingBytes` for how much a read needs. */
  allocate(capacityBytes: number): LandingBuffer {
    const landing = new LandingBuffer(capacityBytes);
    this.#landings.add(landing.bytes.buffer);
    return landing;
  }

  /**
   * `count` new landings of `capacityBytes` each in one ArrayBuffer, so that what several reads brought can be
   * addressed together; each is read into, busy and free on its own.
   */
  allocateParts(count: number, capacityBytes: number): LandingBuffer[] {
    if (!Number.isInteger(count) || count < 1) {
      throw invalid(`The number of landing buffers must be an integer above 0; got ${count}.`);
    }
    const parts = LandingBuffer.parts(count, capacityBytes);
    this.#landings.add(parts[0].bytes.buffer);
    return parts;
  }

  /** Landing capacity that `read(ranges)` needs, bytes, for reading gaps through where that pays. */
  landingBytes(ranges: ByteRanges): number {
    this.#planner.planRanges(ranges, this.#scratchViews, true);
    return this.#planner.landingBytes;
  }

  /** Landing capacity that `readPlan(plan, layout)` needs, bytes. */
  landingBytesForPlan(plan: ChunkPlan, layout: PlanLayout): number {
    this.#planner.planChunks(plan, layout, this.#scratchViews, true);
    return this.#planner.landingBytes;
  }

  /**
   * Landing capacity that is enough for any `rangeCount` disjoint ranges with `wantedBytes` bytes in
   * all, lying within `spanBytes` consecutive bytes of the file, though not always for reading gaps
   * through. For landings allocated once.
   */
  landingBytesBound(rangeCount: number, wantedBytes: number, spanBytes = Infinity): number {
    const slack = 2 * (this.alignmentBytes - 1);
    const bound = Math.min(wantedBytes + rangeCount * slack, spanBytes + slack);
    return Math.ceil(bound / this.alignmentBytes) * this.alignmentBytes;
  }

  /**
   * Reads `ranges` (any order, any alignment). Resolves when every byte has landed. Rejects with the
   * signal's reason, or with TRUNCATED, FILE_CHANGED, IO_ERROR (path, offset, length, errno),
   * OUT_OF_RANGE, INVALID_ARGUMENT, LANDING_TOO_SMALL, LANDING_BUSY, LANDING_DETACHED or CLOSED;
   * by then nothing writes to the landing memory any more. Other reads are not affected.
   */
  read(ranges: ByteRanges, options: ReadOptions = {}): Promise<ReadResult> {
    return this.#start(options, (views, readThrough) => {
      this.#planner.planRanges(ranges, views, readThrough);
      return ranges.count;
    });
  }

  /** Reads the rows of a plan, one view per chunk; otherwise as `read`. */
  readPlan(plan: ChunkPlan, layout: PlanLayout, options: ReadOptions = {}): Promise<ReadResult> {
    return this.#start(options, (views, readThrough) => {
      this.#planner.planChunks(plan, layout, views, readThrough);
      return plan.chunkCount;
    });
  }

  /**
   * Fills `into` with the requests for the rows of `slices`, of which slice `s` is to land in
   * `landings[s % landings.length]`: different parts of one `allocateParts`. Gaps are read through as in `readPlan`,
   * within a slice and where its landing has the room. Throws INVALID_ARGUMENT, OUT_OF_RANGE, LANDING_TOO_SMALL or
   * LANDING_DETACHED; then there is nothing to stream in `into`.
   */
  prepareSlices(
    slices: PlanSlices,
    layout: PlanLayout,
    landings: readonly LandingBuffer[],
    into: SliceRequests,
  ): void {
    if (!(into instanceof SliceRequests)) throw invalid("`into` must be a SliceRequests.");
    into.fill(this.#planner, this.path, slices, layout, landings);
    into.owner = this;
  }

  /**
   * Reads prepared slices in order and tells `sink` natively of each as it lands, without JavaScript in between; at
   * most as many as there are landings are ahead of what the sink has released. Resolves when every slice has landed
   * (the sink may still work on the last ones); otherwise rejects as `read`, or with SINK_CLOSED. Either way, nothing
   * writes to the landings any more, and they are busy until then. A sink that never releases makes it wait for ever.
   */
  async streamSlices(
    requests: SliceRequests,
    sink: LandingSink,
    options: StreamOptions = {},
  ): Promise<StreamResult> {
    const run = this.startSlices(requests, sink, options);
    // Landings stay busy until the caller can know that they are not.
    await Promise.resolve();
    return run.ended();
  }

  /**
   * Starts what `streamSlices` does, for a consumer that learns natively of the end and asks for it then. Throws where nothing
   * could be started.
   */
  startSlices(requests: SliceRequests, sink: LandingSink, options: StreamOptions = {}): SliceRun {
    const { signal, bytesUnderWay = Infinity } = options;
    if (!(bytesUnderWay > 0)) {
      throw invalid(`bytesUnderWay must be a number above 0; got ${bytesUnderWay}.`);
    }
    this.#requireOpen();
    signal?.throwIfAborted();
    if (!(requests instanceof SliceRequests) || requests.owner !== this) {
      throw invalid("`requests` must be filled by prepareSlices() of this reader.");
    }
    if (!binding.isLandingSink(sink)) {
      throw invalid("`sink` must be a native landing sink of the same version as this package.");
    }
    const { landings, bytesWanted, requestCount } = requests;
    requireLanding(landings[0], "landings", this.path);
    for (const landing of landings) requireFree(landing, this.path);
    const id = this.#native.stream(
      requests.requests,
      requests.requestEnds,
      requests.sliceCount,
      landings.length,
      landings[0].bytes.buffer,
      sink,
      // With one slice at a time the device would wait for each.
      Math.max(bytesUnderWay, 2 * requests.largestSliceBytes),
    );
    this.#bytesWanted += bytesWanted;
    const run = new SliceRun(this.#pending, this.#native, id, landings, bytesWanted, requestCount);
    this.#pending.add(id, run, this.#native, signal);
    return run;
  }

  /** What this reader has done and holds. */
  stats(): ReaderStats {
    return {
      ...this.#native.stats(),
      bytesWanted: this.#bytesWanted,
      landingBytes: this.#landings.totalBytes,
    };
  }

  /** Finishes the reads and streams under way, ends the threads and closes the file. New reads reject with CLOSED. */
  close(): Promise<void> {
    this.#closing ??= this.#pending.idle(this.#native).then(() => this.#native.close());
    return this.#closing;
  }

  /** `plan` fills the planner and the views, and returns the number of views. */
  #start(
    options: ReadOptions,
    plan: (views: Views, readThrough: boolean) => number,
  ): Promise<ReadResult> {
    // What the executor throws rejects the promise.
    return new Promise((resolve, reject) => {
      const { into, signal, readThrough = true } = options;
      this.#requireOpen();
      signal?.throwIfAborted();
      if (into !== undefined) {
        requireLanding(into, "into", this.path);
        requireFree(into, this.path);
      }
      const views = into?.views ?? new Views();
      let count = plan(views, readThrough);
      if (into !== undefined && into.capacityBytes < this.#planner.landingBytes) {
        count = plan(views, false);
      }
      const { landingBytes, requestCount, wantedBytes } = this.#planner;
      const landing = into ?? this.allocate(landingBytes);
      if (landing.capacityBytes < landingBytes) {
        throw new FlashReaderError(
          "LANDING_TOO_SMALL",
          `This read needs a landing buffer of ${landingBytes} bytes, but this one has ${landing.capacityBytes}; ` +
            "size it with landingBytes or landingBytesForPlan.",
          { path: this.path, expected: landingBytes, got: landing.capacityBytes },
        );
      }
      const result = new ReadResult(landing.bytes, views, count, wantedBytes, requestCount);
      if (requestCount === 0) {
        resolve(result);
        return;
      }
      const id = this.#native.submit(
        this.#planner.requests,
        requestCount,
        landing.bytes.buffer,
        landing.bytes.byteOffset,
      );
      this.#bytesWanted += wantedBytes;
      const finish = (elapsedNs: number, bytesRead: number): void => {
        result.elapsedNs = elapsedNs;
        result.bytesRead = bytesRead;
        resolve(result);
      };
      this.#pending.add(id, { landings: [landing], resolve: finish, reject }, this.#native, signal);
    });
  }

  #requireOpen(): void {
    if (this.#closing === undefined) return;
    throw new FlashReaderError("CLOSED", `The reader of ${this.path} is closed.`, {
      path: this.path,
    });
  }
}

/** Adds up the memory of landing buffers that is alive, without keeping it alive. */
class LandingMemory {
  totalBytes = 0;
  readonly #collected = new FinalizationRegistry<number>((bytes) => {
    this.totalBytes -= bytes;
  });

  add(memory: ArrayBuffer): void {
    this.totalBytes += memory.byteLength;
    this.#collected.register(memory, memory.byteLength);
  }
}

function invalid(message: string): FlashReaderError {
  return new FlashReaderError("INVALID_ARGUMENT", message);
}
