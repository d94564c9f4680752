/** Every code a {@link WeightStoreError} can carry; stable across minor versions. */
export type WeightStoreErrorCode =
  /** A file or directory that must exist does not. */
  | "NOT_FOUND"
  /** The operating system refused or failed a read, write or rename; see `errno`. */
  | "IO_ERROR"
  /** The file system cannot hold the flash image. */
  | "NO_SPACE"
  /** A file ends before the bytes its own header promises. */
  | "TRUNCATED"
  /** A safetensors header is longer than the format allows or than the file is. */
  | "HEADER_TOO_LARGE"
  /** A safetensors header is not the JSON object the format asks for. */
  | "INVALID_HEADER"
  /** Two tensors, or two keys of one object, carry the same name. */
  | "DUPLICATE_NAME"
  /** Tensor byte ranges overlap, leave gaps, or leave the file. */
  | "INVALID_OFFSETS"
  /** A tensor's bytes do not fit its shape, or its shape does not fit the configuration. */
  | "SHAPE_MISMATCH"
  /** A dtype the format does not know, or one this package does not convert. */
  | "UNSUPPORTED_DTYPE"
  /** `model.safetensors.index.json` is malformed. */
  | "INVALID_INDEX"
  /** A file name or symbolic link leaves the checkpoint directory. */
  | "UNSAFE_PATH"
  /** `config.json` is malformed or contradicts itself. */
  | "INVALID_CONFIG"
  /** The architecture, or a feature of it, is not supported; the message lists those that are. */
  | "UNSUPPORTED_ARCHITECTURE"
  /** The checkpoint lacks tensors the architecture needs. */
  | "MISSING_TENSOR"
  /** The checkpoint holds tensors the architecture does not have. */
  | "UNEXPECTED_TENSOR"
  /** A bad option: an unknown bundle, a permutation that is not one, ... */
  | "INVALID_ARGUMENT"
  /** A weight that cannot be quantised: NaN, infinite, or too large for its scale. */
  | "INVALID_WEIGHT"
  /** `manifest.json` is malformed or contradicts the files beside it. */
  | "INVALID_MANIFEST"
  /** The flash image was written in a schema version this release cannot read. */
  | "UNSUPPORTED_VERSION"
  /** Bytes of a flash image differ from the hash in its manifest. */
  | "CORRUPT_IMAGE"
  /** The output directory exists already. */
  | "OUTPUT_EXISTS"
  /** Another process is writing the same flash image. */
  | "BUSY"
  /** The checkpoint changed while it was read. */
  | "SOURCE_CHANGED"
  /** The flash image was closed. */
  | "CLOSED";

/** The facts of a failure; each is present where it applies. */
export interface WeightStoreErrorFields {
  /** File or directory concerned. */
  path?: string;
  /** Tensor or bundle concerned. */
  name?: string;
  /** Where in the file, bytes from its start. */
  offsetBytes?: number;
  lengthBytes?: number;
  /** Operating system error name, such as `ENOSPC`. */
  errno?: string;
  expected?: unknown;
  got?: unknown;
  cause?: unknown;
}

/** The one error class of this package: a stable `code`, the facts as fields, a message that says what to do. */
export class WeightStoreError extends Error {
  readonly code: WeightStoreErrorCode;
  readonly path: string | undefined;
  readonly tensorName: string | undefined;
  readonly offsetBytes: number | undefined;
  readonly lengthBytes: number | undefined;
  readonly errno: string | undefined;
  readonly expected: unknown;
  readonly got: unknown;

  constructor(code: WeightStoreErrorCode, message: string, fields: WeightStoreErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = "WeightStoreError";
    this.code = code;
    this.path = fields.path;
    this.tensorName = fields.name;
    this.offsetBytes = fields.offsetBytes;
    this.lengthBytes = fields.lengthBytes;
    this.errno = fields.errno;
    this.expected = fields.expected;
    this.got = fields.got;
  }
}

function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

/**
 * Turns a Node.js file system error into a {@link WeightStoreError}; anything else passes unchanged.
 * @param action What was being done, as in "read the header".
 */
export function asFileError(error: unknown, action: string, path: string): unknown {
  const errno = errnoOf(error);
  if (error instanceof WeightStoreError || errno === undefined) return error;
  const fields = { path, errno, cause: error };
  if (errno === "ENOENT" || errno === "ENOTDIR") {
    return new WeightStoreError(
      "NOT_FOUND",
      `Cannot ${action}: ${path} does not exist. Check the path.`,
      fields,
    );
  }
  if (errno === "ENOSPC" || errno === "EDQUOT") {
    return new WeightStoreError(
      "NO_SPACE",
      `Cannot ${action}: the file system of ${path} is full (${errno}). Free some space and run again.`,
      fields,
    );
  }
  return new WeightStoreError(
    "IO_ERROR",
    `Cannot ${action}: ${path}: ${errno}. Check permissions and the health of the disk.`,
    fields,
  );
}

/** Runs `work` and types its file system errors by {@link asFileError}. */
export async function withFileErrors<T>(
  action: string,
  path: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asFileError(error, action, path);
  }
}
