/** Stable reasons a {@link LatencyModelError} is thrown. */
export type LatencyModelErrorCode =
  /** A device profile is not a valid `DeviceProfile` document. */
  | "INVALID_PROFILE"
  /** A chunk plan is unsorted, overlapping, empty-chunked, not maximal or out of range. */
  | "INVALID_PLAN"
  /** A numeric argument is outside its domain. */
  | "INVALID_ARGUMENT"
  /** A simulated device was asked for by a name that does not exist. */
  | "UNKNOWN_DEVICE";

/** What a {@link LatencyModelError} says besides its code. */
export interface LatencyModelErrorDetails {
  /** Path of the offending field or argument, such as `table.sizesBytes[3]`. */
  readonly path: string;
  /** What was needed there. */
  readonly expected: string;
  /** What was found there, shortened for display. */
  readonly got: string;
  /** What to do about it; appended to the message. */
  readonly remedy?: string;
}

/** The only error class that this package throws. */
export class LatencyModelError extends Error {
  override readonly name = "LatencyModelError";
  readonly code: LatencyModelErrorCode;
  readonly path: string;
  readonly expected: string;
  readonly got: string;

  constructor(code: LatencyModelErrorCode, subject: string, details: LatencyModelErrorDetails) {
    const remedy = details.remedy === undefined ? "" : ` ${details.remedy}`;
    super(`${subject}: ${details.path} must be ${details.expected}, got ${details.got}.${remedy}`);
    this.code = code;
    this.path = details.path;
    this.expected = details.expected;
    this.got = details.got;
  }
}

/** Longest excerpt of a foreign value quoted in a message: enough to recognise it, too short to flood a log. */
const MAX_QUOTED_CHARS = 60;

/** One short line describing any value, for error messages. */
export function describeValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  switch (typeof value) {
    case "string": {
      const short =
        value.length > MAX_QUOTED_CHARS ? `${value.slice(0, MAX_QUOTED_CHARS)}...` : value;
      return JSON.stringify(short);
    }
    case "object":
      return "an object";
    case "number":
    case "boolean":
    case "bigint":
      return String(value);
    default:
      return `a ${typeof value}`;
  }
}

/** @internal Throws INVALID_ARGUMENT unless `value` is a finite number at least `minimum`. */
export function requireFinite(value: number, path: string, minimum: number): void {
  if (typeof value === "number" && Number.isFinite(value) && value >= minimum) return;
  throw new LatencyModelError("INVALID_ARGUMENT", "Invalid argument", {
    path,
    expected: `a finite number of at least ${minimum}`,
    got: describeValue(value),
  });
}

/** @internal Throws INVALID_ARGUMENT unless `value` is a finite number above 0. */
export function requirePositive(value: number, path: string): void {
  if (typeof value === "number" && value > 0 && Number.isFinite(value)) return;
  throw new LatencyModelError("INVALID_ARGUMENT", "Invalid argument", {
    path,
    expected: "a positive finite number",
    got: describeValue(value),
  });
}

/** @internal Throws INVALID_ARGUMENT unless `value` is a safe integer at least `minimum`. */
export function requireInteger(value: number, path: string, minimum: number): void {
  if (Number.isSafeInteger(value) && value >= minimum) return;
  throw new LatencyModelError("INVALID_ARGUMENT", "Invalid argument", {
    path,
    expected: `an integer of at least ${minimum}`,
    got: describeValue(value),
  });
}
