/** Stable codes of {@link VlmExecutorError}; messages may change, codes do not. */
export type VlmExecutorErrorCode =
  // The model
  | "UNSUPPORTED_ARCHITECTURE"
  | "UNSUPPORTED_CONFIG"
  | "INVALID_CONFIG"
  | "MISSING_TENSOR"
  | "WRONG_SHAPE"
  | "MEMORY_BUDGET_EXCEEDED"
  | "KERNELS_UNAVAILABLE"
  // What the caller asked for
  | "INVALID_OPTION"
  | "EMPTY_PROMPT"
  | "CONTEXT_FULL"
  | "IMAGE_REQUIRED"
  | "IMAGES_UNSUPPORTED"
  | "PLACEHOLDER_MISMATCH"
  | "CHAT_TEMPLATE_MISSING"
  | "CHAT_TEMPLATE_FAILED"
  | "TOKENIZER_MISSING"
  | "TOKENIZER_INVALID"
  // Calibrations
  | "CALIBRATION_MISSING"
  | "CALIBRATION_INVALID"
  | "CALIBRATION_MISMATCH"
  // Pictures
  | "FILE_NOT_FOUND"
  | "EMPTY_FILE"
  | "NOT_AN_IMAGE"
  | "IMAGE_DAMAGED"
  | "IMAGE_TOO_LARGE"
  | "IMAGE_DECODER_UNAVAILABLE"
  // The run
  | "READ_FAILED"
  | "SELECTION_FAILED"
  | "NON_FINITE"
  | "ABORTED"
  | "BUSY"
  | "CLOSED";

/** What an error can carry beside its code and message; each field is absent where it says nothing. */
export interface VlmExecutorErrorFields {
  /** File or directory concerned. */
  readonly path?: string;
  /** Byte offset in `path`. */
  readonly offsetBytes?: number;
  /** Length of the range in `path`. */
  readonly lengthBytes?: number;
  /** System error name, for example `EIO`. */
  readonly errno?: string;
  /** Decoder layer, counted from 0. */
  readonly layer?: number;
  /** Stored matrix, for example `layers.3.mlp_in`. */
  readonly bundle?: string;
  /** What was wanted (a shape, a list of names, a number of tokens or bytes). */
  readonly expected?: unknown;
  /** What was met instead. */
  readonly got?: unknown;
  readonly cause?: unknown;
}

/** The one error class of this package. Branch on `code`. */
export class VlmExecutorError extends Error {
  override readonly name = "VlmExecutorError";
  readonly code: VlmExecutorErrorCode;
  readonly path?: string;
  readonly offsetBytes?: number;
  readonly lengthBytes?: number;
  readonly errno?: string;
  readonly layer?: number;
  readonly bundle?: string;
  readonly expected?: unknown;
  readonly got?: unknown;

  constructor(code: VlmExecutorErrorCode, message: string, fields: VlmExecutorErrorFields = {}) {
    const { cause, ...rest } = fields;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    Object.assign(this, rest);
  }
}

/** @throws VlmExecutorError `ABORTED` (with the signal's reason as `cause`) once `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError(signal);
}

export function abortedError(signal: AbortSignal): VlmExecutorError {
  return new VlmExecutorError("ABORTED", "The operation was aborted by its signal.", {
    cause: signal.reason,
  });
}
