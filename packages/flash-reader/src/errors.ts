import { getSystemErrorName } from "node:util";
import type { NativeFailure } from "./binding.js";

/** What went wrong, stable across releases. */
export type FlashReaderErrorCode =
  | "INVALID_ARGUMENT"
  | "OPEN_FAILED"
  | "NOT_A_FILE"
  | "DIRECT_IO_UNSUPPORTED"
  | "BACKEND_UNSUPPORTED"
  | "OUT_OF_RANGE"
  | "LANDING_TOO_SMALL"
  | "LANDING_BUSY"
  | "LANDING_DETACHED"
  | "SINK_CLOSED"
  | "TRUNCATED"
  | "FILE_CHANGED"
  | "IO_ERROR"
  | "NO_RESOURCES"
  | "NO_SPACE"
  | "CLOSED";

export interface FlashReaderErrorFields {
  path?: string | undefined;
  /** Where in the file, bytes. */
  offsetBytes?: number | undefined;
  lengthBytes?: number | undefined;
  /** The system's name for the cause, `"EIO"` for example. */
  errno?: string | undefined;
  expected?: number | string | undefined;
  got?: number | string | undefined;
  cause?: unknown;
}

/** Every error of this package. `code` says what happened, the fields where, the message what to do. */
export class FlashReaderError extends Error {
  override readonly name = "FlashReaderError";
  readonly code: FlashReaderErrorCode;
  readonly path: string | undefined;
  readonly offsetBytes: number | undefined;
  readonly lengthBytes: number | undefined;
  readonly errno: string | undefined;
  readonly expected: number | string | undefined;
  readonly got: number | string | undefined;

  constructor(code: FlashReaderErrorCode, message: string, fields: FlashReaderErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = code;
    this.path = fields.path;
    this.offsetBytes = fields.offsetBytes;
    this.lengthBytes = fields.lengthBytes;
    this.errno = fields.errno;
    this.expected = fields.expected;
    this.got = fields.got;
  }
}

const ADVICE: Partial<Record<FlashReaderErrorCode, string>> = {
  OPEN_FAILED: "Check that the path exists and may be read.",
  NOT_A_FILE: "Give the path of a regular file.",
  DIRECT_IO_UNSUPPORTED:
    'Put the file on a file system with direct I/O (ext4, xfs, btrfs), or open it with directIo: "optional".',
  BACKEND_UNSUPPORTED:
    'Open it with backend: "auto", which falls back to a thread pool, or allow io_uring (kernel.io_uring_disabled, seccomp, limits on descriptors and locked memory).',
  TRUNCATED: "The file is shorter than when it was opened; open it again once it is complete.",
  FILE_CHANGED: "The bytes of this read cannot be trusted; open the file again.",
  IO_ERROR: "The device or its file system refused the read; see the kernel log.",
  NO_RESOURCES: "Lower `tuning.threads`, or raise the limits on threads and memory.",
};

/** The system's name of an errno, undefined for 0. */
export function errnoName(errno: number): string | undefined {
  if (errno === 0) return undefined;
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}

/** An error of the native reader as one of ours. */
export function fromNative(path: string, failure: NativeFailure): FlashReaderError {
  const code = failure.code as FlashReaderErrorCode;
  const errno = errnoName(failure.errno);
  const place =
    failure.lengthBytes > 0
      ? ` at offset ${failure.offsetBytes}, length ${failure.lengthBytes}`
      : "";
  const cause = errno === undefined ? "" : ` (${errno})`;
  const advice = ADVICE[code];
  const message = `${path}${place}: ${failure.detail}${cause}.${advice === undefined ? "" : ` ${advice}`}`;
  return new FlashReaderError(code, message, {
    path,
    errno,
    ...(failure.lengthBytes > 0 && {
      offsetBytes: failure.offsetBytes,
      lengthBytes: failure.lengthBytes,
    }),
  });
}
