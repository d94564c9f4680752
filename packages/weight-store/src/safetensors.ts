import { open, type FileHandle } from "node:fs/promises";
import { SAFETENSORS_DTYPE_BITS } from "./dtype.js";
import { WeightStoreError, withFileErrors } from "./errors.js";
import { parseHeaderJson } from "./header-parser.js";

/** Limit of the format itself, checked before anything is allocated. */
export const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

/** One tensor of a safetensors file. */
export interface SafetensorsEntry {
  readonly name: string;
  /** As the file spells it: "BF16", "F32", ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface SafetensorsHeader {
  readonly path: string;
  readonly fileBytes: number;
  /** Where tensor data starts, bytes from the start of the file. */
  readonly dataOffsetBytes: number;
  /** In file order. */
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  /** The free strings of `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Reads and checks the header of a safetensors file. Strict: unknown fields, duplicate names, dtype x shape that is not
 * the byte length, overlaps, gaps, ranges outside the file and bytes after the last tensor are all errors.
 * At most the file's own header length (capped at 100 MB) is allocated.
 * @throws WeightStoreError NOT_FOUND, IO_ERROR, TRUNCATED, HEADER_TOO_LARGE, INVALID_HEADER, DUPLICATE_NAME,
 *   INVALID_OFFSETS, SHAPE_MISMATCH, UNSUPPORTED_DTYPE.
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  return withFileErrors("read the safetensors header", path, async () => {
    const file = await open(path, "r");
    try {
      return await readHeaderOf(file, path);
    } finally {
      await file.close();
    }
  });
}

async function readHeaderOf(file: FileHandle, path: string): Promise<SafetensorsHeader> {
  const fileBytes = (await file.stat()).size;
  const length = new Uint8Array(LENGTH_BYTES);
  if (fileBytes < LENGTH_BYTES || !(await fill(file, length, 0))) {
    throw truncated(path, 0, LENGTH_BYTES, fileBytes);
  }
  const headerBytes = headerLength(length, path);
  if (LENGTH_BYTES + headerBytes > fileBytes) {
    throw truncated(path, LENGTH_BYTES, headerBytes, fileBytes);
  }
  const header = new Uint8Array(headerBytes);
  if (!(await fill(file, header, LENGTH_BYTES))) {
    throw truncated(path, LENGTH_BYTES, headerBytes, fileBytes);
  }
  return checkHeader(header, fileBytes, path);
}

/** Reads until `into` is full; false at end of file. */
async function fill(file: FileHandle, into: Uint8Array, offsetBytes: number): Promise<boolean> {
  for (let done = 0; done < into.length;) {
    const { bytesRead } = await file.read(into, done, into.length - done, offsetBytes + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

function headerLength(prefix: Uint8Array, path: string): number {
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new WeightStoreError(
      "HEADER_TOO_LARGE",
      `${path} is not a valid safetensors file: it claims a header of ${length} bytes, the format allows ` +
        `${MAX_HEADER_BYTES}. Download or export the checkpoint again.`,
      { path, offsetBytes: 0, expected: MAX_HEADER_BYTES, got: length.toString() },
    );
  }
  return Number(length);
}

/**
 * Checks a header whose bytes are already in memory.
 * @param header The JSON, without the 8-byte length before it.
 * @param fileBytes Size of the whole file.
 */
export function checkHeader(
  header: Uint8Array,
  fileBytes: number,
  path: string,
): SafetensorsHeader {
  const raw = parseHeaderJson(header, path);
  const dataOffsetBytes = LENGTH_BYTES + header.length;
  const entries: SafetensorsEntry[] = [];
  for (const [name, { dtype, shape, beginBytes, endBytes }] of raw.tensors) {
    const lengthBytes = endBytes - beginBytes;
    if (lengthBytes < 0) {
      throw invalidOffsets(path, name, beginBytes, "its range ends before it begins", endBytes);
    }
    checkShape(path, name, dtype, shape, lengthBytes);
    entries.push({ name, dtype, shape, offsetBytes: dataOffsetBytes + beginBytes, lengthBytes });
  }
  entries.sort((a, b) => a.offsetBytes - b.offsetBytes || a.lengthBytes - b.lengthBytes);
  checkCoverage(path, entries, dataOffsetBytes, fileBytes);
  const tensors = new Map(entries.map((entry) => [entry.name, entry]));
  return { path, fileBytes, dataOffsetBytes, tensors, metadata: raw.metadata };
}

function checkShape(
  path: string,
  name: string,
  dtype: string,
  shape: readonly number[],
  lengthBytes: number,
): void {
  const bits = SAFETENSORS_DTYPE_BITS.get(dtype);
  if (bits === undefined) {
    throw new WeightStoreError(
      "UNSUPPORTED_DTYPE",
      `${path}: tensor ${name} has dtype ${JSON.stringify(dtype.slice(0, 40))}, which safetensors does not define.`,
      { path, name, expected: [...SAFETENSORS_DTYPE_BITS.keys()], got: dtype.slice(0, 40) },
    );
  }
  // BigInt: a hostile shape such as [2^40, 2^40] must not wrap around to a plausible size.
  const expectedBits = shape.reduce((product, size) => product * BigInt(size), BigInt(bits));
  if (expectedBits !== BigInt(lengthBytes) * 8n) {
    throw new WeightStoreError(
      "SHAPE_MISMATCH",
      `${path}: tensor ${name} has ${lengthBytes} bytes, but ${dtype} [${shape.join(", ")}] needs ` +
        `${Number(expectedBits) / 8}. The file is damaged; download or export it again.`,
      { path, name, expected: Number(expectedBits) / 8, got: lengthBytes },
    );
  }
}

/** Sorted tensors must cover the data exactly: the format allows neither overlaps nor holes. */
function checkCoverage(
  path: string,
  sorted: readonly SafetensorsEntry[],
  dataOffsetBytes: number,
  fileBytes: number,
): void {
  let end = dataOffsetBytes;
  for (const { name, offsetBytes, lengthBytes } of sorted) {
    if (offsetBytes < end) {
      throw invalidOffsets(path, name, offsetBytes, "it overlaps the tensor before it", end);
    }
    if (offsetBytes > end) {
      throw invalidOffsets(path, name, offsetBytes, "there is a gap before it", end);
    }
    end = offsetBytes + lengthBytes;
  }
  if (end > fileBytes) throw truncated(path, dataOffsetBytes, end - dataOffsetBytes, fileBytes);
  if (end < fileBytes) {
    throw new WeightStoreError(
      "INVALID_OFFSETS",
      `${path}: ${fileBytes - end} bytes follow the last tensor. Download or export the file again.`,
      { path, offsetBytes: end, expected: end, got: fileBytes },
    );
  }
}

function invalidOffsets(
  path: string,
  name: string,
  offsetBytes: number,
  what: string,
  expected: number,
): WeightStoreError {
  return new WeightStoreError(
    "INVALID_OFFSETS",
    `${path}: tensor ${name} has impossible data_offsets: ${what} (byte ${offsetBytes}). ` +
      `Download or export the file again.`,
    { path, name, offsetBytes, expected, got: offsetBytes },
  );
}

function truncated(
  path: string,
  offsetBytes: number,
  lengthBytes: number,
  fileBytes: number,
): WeightStoreError {
  return new WeightStoreError(
    "TRUNCATED",
    `${path} is cut short: ${lengthBytes} bytes are needed from byte ${offsetBytes} on, the file has ${fileBytes}. ` +
      `Download the checkpoint again.`,
    { path, offsetBytes, lengthBytes, expected: offsetBytes + lengthBytes, got: fileBytes },
  );
}
