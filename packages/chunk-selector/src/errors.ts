/** Stable reasons a {@link ChunkSelectorError} is thrown. */
export type ChunkSelectorErrorCode =
  /** An importance is NaN, infinite or negative. */
  | "INVALID_IMPORTANCE"
  /** A field of a request, or an argument, is missing, outside its domain or of the wrong length. */
  | "INVALID_REQUEST"
  /** Chunk hyperparameters are not positive or contradict each other. */
  | "INVALID_HYPERPARAMETERS"
  /** A policy was asked for by a name that does not exist. */
  | "UNKNOWN_POLICY";

/** What a {@link ChunkSelectorError} says besides its code. */
export interface ChunkSelectorErrorDetails {
  /** Path of the offending field, such as `importance[17]`. */
  readonly path: string;
  /** What was needed there. */
  readonly expected: string;
  /** What was found there. */
  readonly got: string;
  /** What to do about it; appended to the message. */
  readonly remedy?: string;
}

/** The only error class that this package throws. */
export class ChunkSelectorError extends Error {
  override readonly name = "ChunkSelectorError";
  readonly code: ChunkSelectorErrorCode;
  readonly path: string;
  readonly expected: string;
  readonly got: string;

  constructor(code: ChunkSelectorErrorCode, details: ChunkSelectorErrorDetails) {
    const remedy = details.remedy === undefined ? "" : ` ${details.remedy}`;
    super(`${details.path} must be ${details.expected}, got ${details.got}.${remedy}`);
    this.code = code;
    this.path = details.path;
    this.expected = details.expected;
    this.got = details.got;
  }
}

/** @internal Throws INVALID_REQUEST unless `value` is a safe integer at least `minimum`. */
export function requireInteger(
  value: number | undefined,
  path: string,
  minimum: number,
  remedy?: string,
): asserts value is number {
  if (Number.isSafeInteger(value) && (value as number) >= minimum) return;
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path,
    expected: `an integer of at least ${minimum}`,
    got: value === undefined ? "nothing" : String(value),
    ...(remedy !== undefined && { remedy }),
  });
}

/** @internal Throws INVALID_REQUEST unless the array has exactly `expected` entries. */
export function requireLength(got: number, expected: number, path: string, unit: string): void {
  if (got === expected) return;
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path: `${path}.length`,
    expected: `${expected} (${unit})`,
    got: String(got),
  });
}
