import { NchunkError } from "../../errors";

/** What one fio job did, from its own account. */
export interface FioResult {
  readonly name: string;
  /** errno, 0 when all went well. */
  readonly error: number;
  /** Of reads that ended while fio counted. */
  readonly bytes: number;
  /** Reads that began while fio counted. */
  readonly reads: number;
  /** Whole milliseconds, rounded down by fio: over a run of 250 ms it looks up to 0.4 % faster than it is. */
  readonly runtimeMs: number;
}

interface FioJson {
  jobs?: {
    jobname: string;
    error: number;
    read: { io_bytes: number; total_ios: number; runtime: number };
  }[];
}

/**
 * Parses fio's `--output-format=json`. fio may print warnings before the document.
 * Throws a SyntaxError or TypeError when there is no such document.
 */
export function parseFioOutput(stdout: string): FioResult[] {
  const { jobs } = JSON.parse(stdout.slice(Math.max(0, stdout.indexOf("{\n")))) as FioJson;
  if (!jobs) throw new TypeError("fio's output names no jobs.");
  return jobs.map(({ jobname, error, read }) => ({
    name: jobname,
    error,
    bytes: read.io_bytes,
    reads: read.total_ios,
    runtimeMs: read.runtime,
  }));
}

/** Bytes per ns; 0 for a job that failed or read nothing. */
export const throughput = ({ error, bytes, runtimeMs }: FioResult): number =>
  error === 0 && bytes > 0 ? bytes / (Math.max(1, runtimeMs) * 1e6) : 0;

/**
 * Bytes per ns of reads of one size. Reads that were under way when the ramp-up ended were done in part before
 * counting began, and fio awaits its last reads: those of the first kind count half.
 */
export function randomThroughput(result: FioResult, sizeBytes: number): number {
  const begunBytes = result.reads * sizeBytes;
  return throughput({ ...result, bytes: (result.bytes + begunBytes) / 2 });
}

/** A measurement of fio, where it must be known. Throws BENCH_FAILED. */
export function requireMeasured(bytesPerNs: number): number {
  if (bytesPerNs > 0) return bytesPerNs;
  throw new NchunkError(
    "BENCH_FAILED",
    "fio read nothing with an engine that worked a moment ago; run the bench again.",
  );
}
