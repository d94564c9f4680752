import { resolve as resolvePath } from "node:path";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import { binding } from "./binding.js";
import type { FaultPlan, NativeDescription, NativeFailure, NativeReader } from "./binding.js";
import { errnoName, FlashReaderError, fromNative } from "./errors.js";
import { LandingBuffer } from "./landing-buffer.js";
import { RequestPlanner, Views } from "./ranges.js";
import type { ByteRanges, PlanLayout } from "./ranges.js";
import { PendingReads } from "./pending-reads.js";
import { ReadResult } from "./read-result.js";

export interface FlashReaderOptions {
  /**
   * `"required"`: past the page cache or a DIRECT_IO_UNSUPPORTED error. `"optional"` (the default):
   * buffered reads where the file system has no direct I/O, said in `backend`. `"disabled"`:
   * buffered.
   */
  readonly directIo?: "required" | "optional" | "disabled";
  /** Threads that read, 1 to 64; they live as long as the reader. 6 by default, as in the paper (App. D). */
  readonly threads?: number;
}

/** How a reader reads, decided once at open. */
export interface BackendInfo {
  readonly name: string;
  readonly directIo: boolean;
  /** Why reads are buffered; absent when they are direct. */
  readonly reason?: string;
  /** The system's answer that led to buffered reads, `"EINVAL"` for example. */
  readonly errno?: string;
}

export interface ReadOptions {
  /** Memory to land in; a new one of the right size by default. */
  readonly into?: LandingBuffer;
  /** Stops what is not yet submitted; the promise rejects with the signal's reason once the rest is done. */
  readonly signal?: AbortSignal;
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
  /** Bytes being transferred at this moment, at most threads x 1 MiB. */
  readonly bytesInFlight: number;
  /** Memory of landing buffers of this reader that are not yet collected. */
  readonly landingBytes: number;
}

const DIRECT_IO_MODES = { required: 0, optional: 1, disabled: 2 } as const;
/** More threads than this only queue: no device gains from a deeper queue of whole requests. */
const MAX_THREADS = 64;
const DEFAULT_THREADS = 6;

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
  readonly backend: BackendInfo;
  readonly threads: number;

  readonly #native: NativeReader;
  readonly #pending: PendingReads;
  readonly #planner: RequestPlanner;
  readonly #scratchViews = new Views();
  readonly #landings = new LandingMemory();
  #bytesWanted = 0;
  #closing: Promise<void> | undefined;

  private constructor(
    path: string,
    threads: number,
    native: NativeReader,
    pending: PendingReads,
    description: NativeDescription,
  ) {
    this.path = path;
    this.threads = threads;
    this.#native = native;
    this.#pending = pending;
    this.sizeBytes = description.sizeBytes;
    this.alignmentBytes = description.alignmentBytes;
    const errno = errnoName(description.errno);
    this.backend = {
      name: description.backend,
      directIo: description.directIo,
      ...(description.reason !== "" && { reason: description.reason }),
      ...(errno !== undefined && { errno }),
    };
    this.#planner = new RequestPlanner(this);
  }

  /**
   * Opens a regular file. Rejects with OPEN_FAILED, NOT_A_FILE, DIRECT_IO_UNSUPPORTED, IO_ERROR,
   * NO_RESOURCES or INVALID_ARGUMENT.
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
    const { directIo = "optional", threads = DEFAULT_THREADS } = options;
    if (typeof path !== "string" || path === "" || path.includes("\0")) {
      throw invalid(`path must be a non-empty string without NUL; got ${JSON.stringify(path)}.`);
    }
    if (!Object.hasOwn(DIRECT_IO_MODES, directIo)) {
      throw invalid(
        `directIo must be "required", "optional" or "disabled"; got ${String(directIo)}.`,
      );
    }
    if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
      throw invalid(`threads must be an integer from 1 to ${MAX_THREADS}; got ${threads}.`);
    }
    const absolute = resolvePath(path);
    const pending = new PendingReads(absolute);
    try {
      const native = await binding.openReader(
        absolute,
        DIRECT_IO_MODES[directIo],
        threads,
        pending.settle,
        faults,
      );
      return new FlashReader(absolute, threads, native, pending, native.describe());
    } catch (failure) {
      throw failure instanceof Error ? failure : fromNative(absolute, failure as NativeFailure);
    }
  }

  /** New landing memory of at least `capacityBytes`; see `landingBytes` for how much a read needs. */
  allocate(capacityBytes: number): LandingBuffer {
    const landing = new LandingBuffer(capacityBytes);
    this.#landings.add(landing);
    return landing;
  }

  /** Landing capacity that `read(ranges)` needs, bytes. */
  landingBytes(ranges: ByteRanges): number {
    this.#planner.planRanges(ranges, this.#scratchViews);
    return this.#planner.landingBytes;
  }

  /** Landing capacity that `readPlan(plan, layout)` needs, bytes. */
  landingBytesForPlan(plan: ChunkPlan, layout: PlanLayout): number {
    this.#planner.planChunks(plan, layout, this.#scratchViews);
    return this.#planner.landingBytes;
  }

  /**
   * Landing capacity that is enough for any `rangeCount` disjoint ranges with `wantedBytes` bytes in
   * all, lying within `spanBytes` consecutive bytes of the file. For landings allocated once.
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
    return this.#start(options, (views) => {
      this.#planner.planRanges(ranges, views);
      return ranges.count;
    });
  }

  /** Reads the rows of a plan, one view per chunk; otherwise as `read`. */
  readPlan(plan: ChunkPlan, layout: PlanLayout, options: ReadOptions = {}): Promise<ReadResult> {
    return this.#start(options, (views) => {
      this.#planner.planChunks(plan, layout, views);
      return plan.chunkCount;
    });
  }

  /** What this reader has done and holds. */
  stats(): ReaderStats {
    return {
      ...this.#native.stats(),
      bytesWanted: this.#bytesWanted,
      landingBytes: this.#landings.totalBytes,
    };
  }

  /** Finishes the reads under way, ends the threads and closes the file. New reads reject with CLOSED. */
  close(): Promise<void> {
    this.#closing ??= this.#pending.idle().then(() => this.#native.close());
    return this.#closing;
  }

  /** `plan` fills the planner and the views, and returns the number of views. */
  #start(options: ReadOptions, plan: (views: Views) => number): Promise<ReadResult> {
    // What the executor throws rejects the promise.
    return new Promise((resolve, reject) => {
      const { into, signal } = options;
      if (this.#closing !== undefined) {
        throw new FlashReaderError("CLOSED", `The reader of ${this.path} is closed.`, {
          path: this.path,
        });
      }
      signal?.throwIfAborted();
      if (into !== undefined) this.#checkLanding(into);
      const views = into?.views ?? new Views();
      const count = plan(views);
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
      this.#pending.add(id, { result, landing, resolve, reject }, this.#native, signal);
    });
  }

  #checkLanding(landing: LandingBuffer): void {
    if (!(landing instanceof LandingBuffer)) {
      throw invalid("`into` must be a LandingBuffer made by reader.allocate().");
    }
    if (landing.busy) {
      throw new FlashReaderError(
        "LANDING_BUSY",
        "A read into this landing buffer is under way; wait for it or use another buffer.",
        { path: this.path },
      );
    }
    if (landing.detached) {
      throw new FlashReaderError(
        "LANDING_DETACHED",
        "The memory of this landing buffer was transferred away; allocate a new one.",
        { path: this.path },
      );
    }
  }
}

/** Adds up landing buffers that are alive, without keeping them alive. */
class LandingMemory {
  totalBytes = 0;
  readonly #collected = new FinalizationRegistry<number>((bytes) => {
    this.totalBytes -= bytes;
  });

  add(landing: LandingBuffer): void {
    const bytes = landing.bytes.buffer.byteLength;
    this.totalBytes += bytes;
    this.#collected.register(landing, bytes);
  }
}

function invalid(message: string): FlashReaderError {
  return new FlashReaderError("INVALID_ARGUMENT", message);
}
