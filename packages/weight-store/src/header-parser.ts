import { WeightStoreError, type WeightStoreErrorCode } from "./errors.js";

/** What a safetensors header says of one tensor, not yet checked against the file. */
export interface RawTensorEntry {
  dtype: string;
  shape: number[];
  beginBytes: number;
  endBytes: number;
}

export interface RawHeader {
  tensors: Map<string, RawTensorEntry>;
  metadata: Map<string, string>;
}

/** The largest public shards hold some 10^5 tensors; more is an attempt to exhaust memory. */
export const MAX_TENSORS = 262_144;
/** No framework writes a longer name, and names are repeated in every error message and manifest. */
export const MAX_NAME_BYTES = 4096;
/** PyTorch allows 64; no architecture here passes 4. */
const MAX_DIMENSIONS = 64;
/** `__metadata__` is for a few free strings. */
const MAX_METADATA_ENTRIES = 65_536;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/**
 * Parses the JSON of a safetensors header straight from its bytes, accepting exactly the grammar of the format:
 * one object of tensor entries plus `__metadata__`. Unlike JSON.parse it rejects duplicate keys, builds nothing the
 * header does not need, and so takes memory in proportion to the header whatever that holds.
 * @throws WeightStoreError INVALID_HEADER or DUPLICATE_NAME with the byte offset within the file.
 */
export function parseHeaderJson(bytes: Uint8Array, path: string): RawHeader {
  return new HeaderParser(bytes, path).parse();
}

class HeaderParser {
  private at = 0;
  private readonly decoder = new TextDecoder("utf-8", { fatal: true });

  constructor(
    private readonly bytes: Uint8Array,
    private readonly path: string,
  ) {}

  parse(): RawHeader {
    const header: RawHeader = { tensors: new Map(), metadata: new Map() };
    let metadataSeen = false;
    if (this.bytes[0] !== OPEN_BRACE) this.fail("the header must begin with '{'");
    this.object((name) => {
      if (name === "__metadata__") {
        if (metadataSeen) this.failDuplicate(name);
        metadataSeen = true;
        this.parseMetadata(header.metadata);
        return;
      }
      if (header.tensors.has(name)) this.failDuplicate(name);
      if (header.tensors.size >= MAX_TENSORS) this.fail(`more than ${MAX_TENSORS} tensors`);
      header.tensors.set(name, this.parseEntry(name));
    });
    this.skipSpace();
    if (this.at !== this.bytes.length) this.fail("text after the closing brace");
    return header;
  }

  private parseMetadata(metadata: Map<string, string>): void {
    this.object((key) => {
      if (metadata.has(key)) this.failDuplicate(key);
      if (metadata.size >= MAX_METADATA_ENTRIES) this.fail("too many metadata entries");
      metadata.set(key, this.string(this.bytes.length));
    });
  }

  private parseEntry(name: string): RawTensorEntry {
    let dtype: string | undefined;
    let shape: number[] | undefined;
    let offsets: number[] | undefined;
    this.object((key) => {
      if (key === "dtype" && dtype === undefined) dtype = this.string(MAX_NAME_BYTES);
      else if (key === "shape" && shape === undefined) shape = this.integers(MAX_DIMENSIONS);
      else if (key === "data_offsets" && offsets === undefined) offsets = this.integers(2);
      else if (key === "dtype" || key === "shape" || key === "data_offsets") {
        this.failDuplicate(`${name}.${key}`);
      } else this.fail(`tensor ${quoted(name)} has an unknown field ${quoted(key)}`);
    });
    if (dtype === undefined || shape === undefined || offsets?.length !== 2) {
      this.fail(`tensor ${quoted(name)} needs dtype, shape and data_offsets [begin, end]`);
    }
    return { dtype, shape, beginBytes: offsets[0], endBytes: offsets[1] };
  }

  /** Parses one object, calling `member` with each key, positioned at its value. */
  private object(member: (key: string) => void): void {
    this.expect(OPEN_BRACE, "'{'");
    if (this.peek() === CLOSE_BRACE) {
      this.at++;
      return;
    }
    for (;;) {
      this.skipSpace();
      const key = this.string(MAX_NAME_BYTES);
      this.expect(COLON, "':'");
      this.skipSpace();
      member(key);
      const next = this.peek();
      this.at++;
      if (next === CLOSE_BRACE) return;
      if (next !== COMMA) this.fail("expected ',' or '}'");
    }
  }

  private integers(most: number): number[] {
    const values: number[] = [];
    this.expect(OPEN_BRACKET, "'['");
    if (this.peek() === CLOSE_BRACKET) {
      this.at++;
      return values;
    }
    for (;;) {
      this.skipSpace();
      if (values.length >= most) this.fail(`more than ${most} numbers in an array`);
      values.push(this.integer());
      const next = this.peek();
      this.at++;
      if (next === CLOSE_BRACKET) return values;
      if (next !== COMMA) this.fail("expected ',' or ']'");
    }
  }

  private integer(): number {
    const start = this.at;
    let value = 0;
    for (; this.at < this.bytes.length; this.at++) {
      const digit = this.bytes[this.at] - 0x30;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      if (value > Number.MAX_SAFE_INTEGER) this.fail("a number beyond 2^53 - 1");
    }
    const digits = this.at - start;
    if (digits === 0) this.fail("expected a non-negative integer");
    if (digits > 1 && this.bytes[start] === 0x30) this.fail("a number with a leading zero");
    return value;
  }

  private string(mostBytes: number): string {
    if (this.bytes[this.at] !== QUOTE) this.fail("expected a string");
    const start = this.at++;
    let escaped = false;
    for (; ; this.at++) {
      if (this.at >= this.bytes.length) this.fail("an unfinished string");
      if (this.at - start > mostBytes + 1) this.fail(`a string longer than ${mostBytes} bytes`);
      const byte = this.bytes[this.at];
      if (byte === QUOTE) break;
      if (byte < 0x20) this.fail("a control character in a string");
      if (byte === BACKSLASH) {
        escaped = true;
        this.at++;
      }
    }
    this.at++;
    return this.decode(start, this.at, escaped);
  }

  /** The string between two quotes; escapes are left to JSON.parse, which is strict about them. */
  private decode(start: number, end: number, escaped: boolean): string {
    try {
      if (!escaped) return this.decoder.decode(this.bytes.subarray(start + 1, end - 1));
      return JSON.parse(this.decoder.decode(this.bytes.subarray(start, end))) as string;
    } catch {
      this.at = start;
      return this.fail("a string that is not valid UTF-8 JSON");
    }
  }

  private expect(byte: number, what: string): void {
    if (this.peek() !== byte) this.fail(`expected ${what}`);
    this.at++;
  }

  private peek(): number | undefined {
    this.skipSpace();
    return this.bytes[this.at];
  }

  private skipSpace(): void {
    for (; this.at < this.bytes.length; this.at++) {
      const byte = this.bytes[this.at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
    }
  }

  private failDuplicate(name: string): never {
    return this.fail(`the name ${quoted(name)} appears twice`, "DUPLICATE_NAME", name);
  }

  private fail(what: string, code: WeightStoreErrorCode = "INVALID_HEADER", name?: string): never {
    const offsetBytes = 8 + this.at;
    throw new WeightStoreError(
      code,
      `${this.path} is not a valid safetensors file: ${what} (byte ${offsetBytes}). ` +
        `Download or export the checkpoint again.`,
      { path: this.path, offsetBytes, ...(name === undefined ? {} : { name: name.slice(0, 200) }) },
    );
  }
}

/** A name as JSON, cut to what fits a message. */
function quoted(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}...` : name);
}
