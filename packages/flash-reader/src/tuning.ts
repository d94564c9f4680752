import {
  MAX_QUEUE_DEPTH,
  MAX_READER_THREADS,
  READER_BACKENDS,
} from "@neuron-chunking/latency-model";
import type { ReaderTuning } from "@neuron-chunking/latency-model";
import { FlashReaderError } from "./errors.js";

/**
 * For a device that nobody has measured yet: moderate values that no common device is slow with. A
 * profile's `reader.tuning` has measured ones.
 */
const UNMEASURED: ReaderTuning = {
  backend: "io_uring",
  queueDepth: 64,
  threads: 8,
  maxBytesInFlight: 4 << 20,
  submitBatch: 20,
  maxRequestBytes: 1 << 20,
  readThroughBytes: 0,
};

/** More in flight than this is a mistake: no device needs it to be busy. */
const MAX_BYTES_IN_FLIGHT = 2 ** 32;
/** The length of one transfer is a 32-bit number in the kernel, and is cut at 2 GiB. */
const MAX_REQUEST_BYTES = 2 ** 30;

/** `given` with defaults for what it leaves open. Throws INVALID_ARGUMENT. */
export function completeTuning(given: Partial<ReaderTuning> = {}): ReaderTuning {
  const tuning = { ...UNMEASURED, ...given };
  if (!READER_BACKENDS.includes(tuning.backend)) {
    throw invalid(`backend must be one of ${READER_BACKENDS.join(", ")}`, tuning.backend);
  }
  check(tuning, "queueDepth", 1, MAX_QUEUE_DEPTH);
  check(tuning, "threads", 1, MAX_READER_THREADS);
  check(tuning, "maxBytesInFlight", 1, MAX_BYTES_IN_FLIGHT);
  // A depth given alone must not clash with the default batch.
  if (given.submitBatch === undefined) {
    tuning.submitBatch = Math.min(tuning.submitBatch, tuning.queueDepth);
  }
  check(tuning, "submitBatch", 1, tuning.queueDepth);
  check(tuning, "maxRequestBytes", 4096, MAX_REQUEST_BYTES);
  check(tuning, "readThroughBytes", 0, MAX_REQUEST_BYTES);
  return tuning;
}

function check(
  tuning: ReaderTuning,
  field: Exclude<keyof ReaderTuning, "backend">,
  least: number,
  most: number,
): void {
  const value = tuning[field];
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw invalid(`${field} must be an integer from ${least} to ${most}`, value);
}

function invalid(rule: string, got: unknown): FlashReaderError {
  return new FlashReaderError("INVALID_ARGUMENT", `tuning.${rule}; got ${String(got)}.`);
}
