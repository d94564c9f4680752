import { ChunkSelectorError } from "./errors.js";

/** @internal Typed access to parsed JSON of any origin; every error names the field. */
export class FileFields {
  private constructor(
    private readonly values: Readonly<Record<string, unknown>>,
    private readonly path: string,
    private readonly remedy: string,
  ) {}

  /** @param remedy What to do about a file that is not as it should be. */
  static of(value: unknown, path: string, remedy: string): FileFields {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw invalidField(path, "an object", value, remedy);
    }
    return new FileFields(value as Record<string, unknown>, path, remedy);
  }

  fail(name: string, expected: string): ChunkSelectorError {
    return invalidField(`${this.path}.${name}`, expected, this.values[name], this.remedy);
  }

  object(name: string): FileFields {
    return FileFields.of(this.values[name], `${this.path}.${name}`, this.remedy);
  }

  /** A list of at least one object. */
  objects(name: string): FileFields[] {
    return this.list(name).map((entry, index) =>
      FileFields.of(entry, `${this.path}.${name}[${index}]`, this.remedy),
    );
  }

  text(name: string, pattern = /./): string {
    const value = this.values[name];
    if (typeof value === "string" && pattern.test(value)) return value;
    throw this.fail(name, pattern.source === "." ? "a text" : `a text like ${pattern.source}`);
  }

  boolean(name: string): boolean {
    const value = this.values[name];
    if (typeof value === "boolean") return value;
    throw this.fail(name, "true or false");
  }

  constant<T extends string | number>(name: string, value: T): T {
    if (this.values[name] === value) return value;
    throw this.fail(name, JSON.stringify(value));
  }

  number(name: string, least: number, most = Number.MAX_VALUE): number {
    const value = this.values[name];
    if (isWithin(value, least, most)) return value;
    throw this.fail(name, range(least, most));
  }

  positive(name: string): number {
    return this.number(name, Number.MIN_VALUE);
  }

  integer(name: string, least: number): number {
    const value = this.values[name];
    if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
    throw this.fail(name, `a whole number of at least ${least}`);
  }

  /** At least one number, each within the bounds. */
  numbers(name: string, least: number, most = Number.MAX_VALUE): number[] {
    return this.list(name).map((value, index) => {
      if (isWithin(value, least, most)) return value;
      const path = `${this.path}.${name}[${index}]`;
      throw invalidField(path, range(least, most), value, this.remedy);
    });
  }

  /** Numbers within bounds by name. */
  numbersByName(name: string, least: number, most: number): Record<string, number> {
    const object = this.object(name);
    const entries = Object.keys(object.values).map((key): [string, number] => [
      key,
      object.number(key, least, most),
    ]);
    return Object.fromEntries(entries);
  }

  private list(name: string): unknown[] {
    const value = this.values[name];
    if (Array.isArray(value) && value.length > 0) return value as unknown[];
    throw this.fail(name, "a list of at least one");
  }
}

/** @internal Parses the text of a file. */
export function parseFileText(text: string, path: string, remedy: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ChunkSelectorError("INVALID_REQUEST", {
      path,
      expected: "a JSON document",
      got: text === "" ? "an empty file" : `a text of ${text.length} characters`,
      remedy: `${reason}. ${remedy}`,
    });
  }
}

function isWithin(value: unknown, least: number, most: number): value is number {
  return typeof value === "number" && value >= least && value <= most;
}

function range(least: number, most: number): string {
  if (least === Number.MIN_VALUE) return "a number above 0";
  return most === Number.MAX_VALUE
    ? `a number of at least ${least}`
    : `a number from ${least} to ${most}`;
}

function invalidField(
  path: string,
  expected: string,
  got: unknown,
  remedy: string,
): ChunkSelectorError {
  const text = got === undefined ? "nothing" : (JSON.stringify(got) ?? typeof got);
  return new ChunkSelectorError("INVALID_REQUEST", {
    path,
    expected,
    got: text.length > 60 ? `${text.slice(0, 60)}...` : text,
    remedy,
  });
}
