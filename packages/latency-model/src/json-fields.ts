import { describeValue, LatencyModelError } from "./errors.js";

/** A JSON object whose fields have not been checked. Only own properties are ever read from it. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** What to do about a profile that is refused. */
export const PROFILE_REMEDY =
  "Correct that field, or delete the file and profile the device again.";

/** `YYYY-MM-DDThh:mm:ss[.fff](Z|+hh:mm)`, the same pattern as in the schema. */
const ISO_TIME =
  /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/;

export function fieldError(
  path: string,
  expected: string,
  got: unknown,
  remedy: string = PROFILE_REMEDY,
): LatencyModelError {
  return new LatencyModelError("INVALID_PROFILE", "Invalid device profile", {
    path,
    expected,
    got: describeValue(got),
    remedy,
  });
}

export function has(parent: JsonObject, key: string): boolean {
  return Object.hasOwn(parent, key) && parent[key] !== undefined;
}

export function required(parent: JsonObject, key: string, path: string): unknown {
  if (!has(parent, key)) throw fieldError(path, "present", undefined);
  return parent[key];
}

export function object(value: unknown, path: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw fieldError(path, "an object", value);
  }
  return value as JsonObject;
}

export function text(parent: JsonObject, key: string, path: string): string {
  const value = required(parent, key, path);
  if (typeof value !== "string" || value === "")
    throw fieldError(path, "a non-empty string", value);
  return value;
}

export function isoTime(parent: JsonObject, key: string, path: string): string {
  const value = text(parent, key, path);
  if (!ISO_TIME.test(value)) {
    throw fieldError(path, "an ISO 8601 time such as 2025-11-20T16:00:00Z", value);
  }
  return value;
}

export function boolean(parent: JsonObject, key: string, path: string): boolean {
  const value = required(parent, key, path);
  if (typeof value !== "boolean") throw fieldError(path, "true or false", value);
  return value;
}

export function oneOf<T extends string>(
  parent: JsonObject,
  key: string,
  path: string,
  choices: readonly T[],
): T {
  const value = required(parent, key, path);
  const choice = choices.find((candidate) => candidate === value);
  if (choice === undefined) throw fieldError(path, `one of ${choices.join(", ")}`, value);
  return choice;
}

export function integer(
  parent: JsonObject,
  key: string,
  path: string,
  minimum: number,
  maximum?: number,
): number {
  return asInteger(required(parent, key, path), path, minimum, maximum);
}

export function positive(parent: JsonObject, key: string, path: string): number {
  return asPositive(required(parent, key, path), path);
}

export function nonNegative(parent: JsonObject, key: string, path: string): number {
  const value = required(parent, key, path);
  if (typeof value !== "number" || !(value >= 0) || !Number.isFinite(value)) {
    throw fieldError(path, "a finite number of at least 0", value);
  }
  return value;
}

/** A finite number of any sign up to `maximum`. */
export function finite(parent: JsonObject, key: string, path: string, maximum: number): number {
  const value = required(parent, key, path);
  if (typeof value !== "number" || !Number.isFinite(value) || value > maximum) {
    throw fieldError(path, `a finite number of at most ${maximum}`, value);
  }
  return value;
}

export function array(
  parent: JsonObject,
  key: string,
  path: string,
  minItems: number,
  maxItems: number,
): readonly unknown[] {
  const value = required(parent, key, path);
  if (!Array.isArray(value) || value.length < minItems || value.length > maxItems) {
    throw fieldError(path, `an array of ${minItems} to ${maxItems} entries`, value);
  }
  // A hole in a sparse array would be skipped by map and pass unchecked.
  return Array.from(value as readonly unknown[]);
}

export function asInteger(
  value: unknown,
  path: string,
  minimum: number,
  maximum: number = Number.MAX_SAFE_INTEGER,
): number {
  if (Number.isSafeInteger(value) && (value as number) >= minimum && (value as number) <= maximum) {
    return value as number;
  }
  const bounds =
    maximum === Number.MAX_SAFE_INTEGER
      ? `of at least ${minimum}`
      : `between ${minimum} and ${maximum}`;
  throw fieldError(path, `an integer ${bounds}`, value);
}

export function asPositive(value: unknown, path: string): number {
  if (typeof value !== "number" || !(value > 0) || !Number.isFinite(value)) {
    throw fieldError(path, "a positive finite number", value);
  }
  return value;
}

/** Refuses entry `index` of an array of numbers unless it is more than the one before. */
export function requireAscending(values: readonly number[], index: number, path: string): void {
  if (values[index] > values[index - 1]) return;
  const expected = `more than ${values[index - 1]} (strictly ascending)`;
  throw fieldError(`${path}[${index}]`, expected, values[index]);
}
