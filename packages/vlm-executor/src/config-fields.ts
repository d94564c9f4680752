import { VlmExecutorError } from "./errors.js";

/** A JSON object as read from `config.json`, with checked access to its fields. */
export class ConfigFields {
  private readonly values: Record<string, unknown>;

  /** @param where how messages name this object, for example `config.json: text_config` */
  constructor(
    value: unknown,
    private readonly where: string,
  ) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new VlmExecutorError("INVALID_CONFIG", `${where} must be a JSON object.`, {
        expected: "object",
        got: value,
      });
    }
    this.values = value as Record<string, unknown>;
  }

  has(name: string): boolean {
    return this.values[name] !== undefined && this.values[name] !== null;
  }

  raw(name: string): unknown {
    return this.values[name];
  }

  object(name: string): ConfigFields {
    return new ConfigFields(this.values[name], `${this.where}: ${name}`);
  }

  /** A whole number of at least `minimum`. */
  count(name: string, fallback: number, minimum = 1): number {
    const value = this.has(name) ? this.values[name] : fallback;
    if (!Number.isSafeInteger(value) || (value as number) < minimum) {
      throw this.invalid(name, `a whole number of at least ${minimum}`);
    }
    return value as number;
  }

  /** A finite number above zero. */
  positive(name: string, fallback?: number): number {
    const value = this.has(name) ? this.values[name] : fallback;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) {
      throw this.invalid(name, "a number above zero");
    }
    return value;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.has(name) ? this.values[name] : fallback;
    if (typeof value !== "boolean") throw this.invalid(name, "true or false");
    return value;
  }

  text(name: string, fallback: string): string {
    const value = this.has(name) ? this.values[name] : fallback;
    if (typeof value !== "string") throw this.invalid(name, "a string");
    return value;
  }

  /** Refuses every value of a field but those this executor computes. */
  oneOf<T extends string>(name: string, fallback: T, supported: readonly T[]): T {
    const value = this.text(name, fallback);
    if (!(supported as readonly string[]).includes(value)) throw this.unsupported(name, supported);
    return value as T;
  }

  /** Token ids given as a number, a list of numbers or nothing. */
  tokenIds(name: string): number[] {
    if (!this.has(name)) return [];
    const value = this.values[name];
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (!list.every((id) => Number.isSafeInteger(id) && (id as number) >= 0)) {
      throw this.invalid(name, "a token id or a list of token ids");
    }
    return list as number[];
  }

  invalid(name: string, expected: string): VlmExecutorError {
    const got = this.values[name];
    return new VlmExecutorError(
      "INVALID_CONFIG",
      `${this.where}: ${name} must be ${expected}, not ${JSON.stringify(got) ?? "missing"}.`,
      { expected, got },
    );
  }

  unsupported(name: string, supported: unknown): VlmExecutorError {
    const got = this.values[name];
    return new VlmExecutorError(
      "UNSUPPORTED_CONFIG",
      `${this.where}: ${name} = ${JSON.stringify(got)} is not supported (supported: ${JSON.stringify(supported)}).`,
      { expected: supported, got },
    );
  }
}
