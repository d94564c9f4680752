import { readFile, stat } from "node:fs/promises";
import { WeightStoreError, withFileErrors, type WeightStoreErrorCode } from "./errors.js";

/** The largest JSON beside the weights is the index of a huge model: some 10^5 names, under 20 MB. */
const MAX_JSON_BYTES = 64 * 1024 * 1024;

/**
 * Reads a JSON file that must hold an object.
 * @param code Code of the error for a file that does not.
 */
export async function readJsonObject(
  path: string,
  code: WeightStoreErrorCode,
): Promise<Record<string, unknown>> {
  const text = await withFileErrors("read", path, async () => {
    const { size } = await stat(path);
    if (size > MAX_JSON_BYTES) {
      throw new WeightStoreError(
        code,
        `${path} has ${size} bytes; at most ${MAX_JSON_BYTES} make sense for this file.`,
        { path, expected: MAX_JSON_BYTES, got: size },
      );
    }
    return readFile(path, "utf8");
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new WeightStoreError(code, `${path} is not valid JSON. Restore the file.`, {
      path,
      cause,
    });
  }
  if (!isObject(value)) {
    throw new WeightStoreError(code, `${path} must hold a JSON object. Restore the file.`, {
      path,
      expected: "object",
      got: Array.isArray(value) ? "array" : typeof value,
    });
  }
  return value;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Typed access to the fields of parsed JSON; every error names the file and the field. */
export class Fields {
  constructor(
    readonly values: Readonly<Record<string, unknown>>,
    readonly path: string,
    private readonly code: WeightStoreErrorCode,
    /** Where in the file, as in "text_config." */
    private readonly prefix = "",
  ) {}

  has(name: string): boolean {
    const value = this.value(name);
    return value !== undefined && value !== null;
  }

  /** A nested object, or an empty one where it is absent and `optional`. */
  object(name: string, optional = false): Fields {
    const value = this.value(name);
    if (isObject(value)) return this.nested(value, name);
    if (optional && (value === undefined || value === null)) return this.nested({}, name);
    return this.fail(name, "an object", value);
  }

  objects(name: string): Fields[] {
    return this.array(name).map((value, index) =>
      isObject(value)
        ? this.nested(value, `${name}[${index}]`)
        : this.fail(`${name}[${index}]`, "an object", value),
    );
  }

  array(name: string): unknown[] {
    const value = this.value(name);
    return Array.isArray(value) ? (value as unknown[]) : this.fail(name, "an array", value);
  }

  /** An integer in [least, most]; `fallback` stands in where the field is absent. */
  integer(name: string, least: number, most: number, fallback?: number): number {
    const value = this.value(name) ?? fallback;
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most)
      return value;
    return this.fail(name, `an integer from ${least} to ${most}`, value);
  }

  integers(name: string, least: number, most: number): number[] {
    return this.array(name).map((_, index, all) =>
      this.nested(all as unknown as Record<string, unknown>, name).integer(
        String(index),
        least,
        most,
      ),
    );
  }

  number(name: string): number {
    const value = this.value(name);
    if (typeof value === "number" && Number.isFinite(value)) return value;
    return this.fail(name, "a number", value);
  }

  boolean(name: string, fallback?: boolean): boolean {
    const value = this.value(name) ?? fallback;
    return typeof value === "boolean" ? value : this.fail(name, "true or false", value);
  }

  string(name: string, fallback?: string): string {
    const value = this.value(name) ?? fallback;
    return typeof value === "string" ? value : this.fail(name, "a string", value);
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const value = this.string(name);
    const found = allowed.find((candidate) => candidate === value);
    return found ?? this.fail(name, `one of ${allowed.join(", ")}`, value);
  }

  /** Fails because of field `name`, in the words every field error uses. */
  fail(name: string, expected: string, got: unknown): never {
    const shown = JSON.stringify(got)?.slice(0, 80) ?? "nothing";
    throw new WeightStoreError(
      this.code,
      `${this.path}: ${this.prefix}${name} must be ${expected}, found ${shown}.`,
      { path: this.path, name: `${this.prefix}${name}`, expected, got },
    );
  }

  private value(name: string): unknown {
    return Object.hasOwn(this.values, name) ? this.values[name] : undefined;
  }

  private nested(values: Record<string, unknown>, name: string): Fields {
    return new Fields(values, this.path, this.code, `${this.prefix}${name}.`);
  }
}
