import * as read from "./json-fields.js";

/** Most requests that a reader keeps in flight with io_uring. */
export const MAX_QUEUE_DEPTH = 1024;

/** Most threads of a reader's pool. */
export const MAX_READER_THREADS = 64;

/** Ways to issue reads. */
export const READER_BACKENDS = Object.freeze(["io_uring", "pool"] as const);

/** A way to issue reads. */
export type ReaderBackendName = (typeof READER_BACKENDS)[number];

/** How a reader should drive a device, as its profiler measured it. */
export interface ReaderTuning {
  /** The faster backend on this device. */
  readonly backend: ReaderBackendName;
  /** io_uring: most requests in flight, 1 to {@link MAX_QUEUE_DEPTH}. */
  readonly queueDepth: number;
  /** pool: threads, each with one request in flight, 1 to {@link MAX_READER_THREADS}. */
  readonly threads: number;
  /** Both: most bytes in flight, at least 1; one request is always allowed, however long. */
  readonly maxBytesInFlight: number;
  /** io_uring: completions awaited before the queue is refilled, 1 to `queueDepth`. */
  readonly submitBatch: number;
  /** Longer requests are split into equal parts of at most this many bytes, at least 1. */
  readonly maxRequestBytes: number;
  /** Gaps of up to this many bytes are read through; 0 for never. */
  readonly readThroughBytes: number;
}

/** The tuning in a field of a foreign document, checked and copied. */
export function readReaderTuning(value: unknown, path: string): ReaderTuning {
  const tuning = read.object(value, path);
  const field = (key: keyof ReaderTuning, minimum: number, maximum?: number): number =>
    read.integer(tuning, key, `${path}.${key}`, minimum, maximum);
  const backend = read.oneOf(tuning, "backend", `${path}.backend`, READER_BACKENDS);
  const queueDepth = field("queueDepth", 1, MAX_QUEUE_DEPTH);
  return {
    backend,
    queueDepth,
    threads: field("threads", 1, MAX_READER_THREADS),
    maxBytesInFlight: field("maxBytesInFlight", 1),
    submitBatch: field("submitBatch", 1, queueDepth),
    maxRequestBytes: field("maxRequestBytes", 1),
    readThroughBytes: field("readThroughBytes", 0),
  };
}
