import addon from "@neuron-chunking/flash-io-addon";
import type { LandingSink } from "./landing-sink.js";

/** Types of the raw addon. Nothing but the reader and the landing buffer may touch it. */
export interface NativeBinding {
  /**
   * Rejects with a {@link NativeFailure}. `directIo`: 0 required, 1 optional, 2 disabled. `backend`: 0
   * auto, 1 io_uring, 2 pool.
   */
  openReader(
    path: string,
    directIo: number,
    backend: number,
    tuning: NativeTuning,
    onSettled: OnSettled,
    faults?: FaultPlan,
  ): Promise<NativeReader>;
  /** The offset of the first aligned byte of `buffer`; asks for huge pages behind it. */
  alignLanding(buffer: ArrayBuffer, capacityBytes: number, alignmentBytes: number): number;
  /** The errno of fallocate(2), 0 when the space is reserved. */
  preallocate(fd: number, sizeBytes: number): Promise<number>;
  /** For tests: what V8 was told of memory outside its heap, by everybody. */
  externalMemoryBytes(): number;
  /** What lies behind an open file. */
  fileExtents(fd: number): Promise<NativeExtents>;
  isLandingSink(value: unknown): boolean;
  /**
   * For tests: a sink that records one stream at a time. An eager one releases every slice as soon as it and all
   * before it landed, and closes at the end; another one does so when told.
   */
  collectingSink(isEager: boolean): LandingSink;
  /** What a collecting sink was told. */
  collected(sink: LandingSink): CollectedSlices;
  releaseCollected(sink: LandingSink, count: number): void;
  closeCollected(sink: LandingSink): void;
}

export interface CollectedSlices {
  begins: number;
  slices: number;
  /** In the order of landing. */
  landed: number[];
  ends: number;
  allLanded: boolean;
}

export interface NativeExtents {
  /** The answer of FIEMAP, 0 when the four counts after it hold. */
  errno: number;
  extents: number;
  /** Bytes that extents cover; the rest of the file is holes. */
  mappedBytes: number;
  /** Of these, bytes that no device holds yet. */
  unwrittenBytes: number;
  /** Of these, bytes that are compressed, encrypted or kept within metadata. */
  encodedBytes: number;
  /** Bytes of the file in the page cache, -1 when the system does not say. */
  cachedBytes: number;
}

export interface NativeTuning {
  readonly queueDepth: number;
  readonly submitBatch: number;
  readonly threads: number;
  readonly maxBytesInFlight: number;
}

/**
 * Called once per batch or stream, on the thread that opened the reader. `elapsedNs` runs from submit to the last
 * byte; of a stream it is the time in which it read, and `cancelled` means that not all landed.
 */
export type OnSettled = (
  id: number,
  elapsedNs: number,
  bytesRead: number,
  cancelled: boolean,
  failure: NativeFailure | null,
) => void;

export interface NativeFailure {
  code: string;
  /** 0 when no system call failed. */
  errno: number;
  offsetBytes: number;
  lengthBytes: number;
  detail: string;
}

export interface NativeReader {
  /**
   * Starts `count` aligned requests, each three numbers of `requests`: file offset, length, offset
   * behind `landingOffsetBytes` of `landing`. All are copied; `landing` is kept referenced until the
   * batch settled.
   */
  submit(
    requests: Float64Array,
    count: number,
    landing: ArrayBuffer,
    landingOffsetBytes: number,
  ): number;
  /**
   * Starts a stream of `sliceCount` slices, `slots` of them ahead of what `sink` released. Requests as for `submit`,
   * but their third number is an offset in `landing`; slice s is those before `requestEnds[s]`. At most
   * `mostBytesUnderWay` (Infinity: what the tuning allows), or one request, are under way at a time. All are copied;
   * `landing` and `sink` are kept referenced until the stream settled, which it does when it is taken.
   */
  stream(
    requests: Float64Array,
    requestEnds: Uint32Array,
    sliceCount: number,
    slots: number,
    landing: ArrayBuffer,
    sink: LandingSink,
    mostBytesUnderWay: number,
  ): number;
  /**
   * Settles a stream that has ended: `into` is [3] time in which it read, bytes, 1 where not all landed; the rest is
   * returned. Undefined where it has not ended: then it settles as a batch does.
   */
  take(id: number, into: Float64Array): NativeFailure | null | undefined;
  /** Stops what is not yet submitted of a batch or stream; it settles when the rest is done. */
  cancel(id: number): void;
  /** Throws while a stream is under way. */
  close(): Promise<void>;
  stats(): NativeStats;
  describe(): NativeDescription;
}

export interface NativeStats {
  batches: number;
  requests: number;
  bytesRead: number;
  retries: number;
  errors: number;
  bytesInFlight: number;
  mostBytesInFlight: number;
  enterCalls: number;
  nativeBytes: number;
}

export interface NativeDescription {
  backend: "io_uring" | "pool";
  sizeBytes: number;
  alignmentBytes: number;
  directIo: boolean;
  /** Why reads are buffered although direct I/O was not disabled. */
  fallback?: { detail: string; errno: number };
  /** Why io_uring is not used, or is not used any more, although it was wanted. */
  uringRefusal?: NativeFailure;
}

/**
 * For tests: faults at the system-call boundary, each in 1/65536 of all reads (`enter`: of all
 * io_uring_enter calls; `uringLostAfter`: the number of the enter call from which on all are refused).
 */
export interface FaultPlan {
  seed: number;
  shortRead?: number;
  zero?: number;
  interrupted?: number;
  again?: number;
  noMemory?: number;
  ioError?: number;
  noDevice?: number;
  delay?: number;
  enter?: number;
  uringLostAfter?: number;
}

export const binding = addon as NativeBinding;
