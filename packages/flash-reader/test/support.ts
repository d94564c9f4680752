import { createCipheriv, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll } from "vitest";
import type { ByteRanges, FlashReaderOptions, ReadResult } from "../src/index.js";
import { FlashReader, FlashReaderError } from "../src/index.js";

/** On the disk that holds the repository: direct I/O usually works there. */
const CACHE_DIRECTORY = fileURLToPath(new URL("../.cache", import.meta.url));

/** A directory in `base`, by default on the disk that holds the repository, removed at the end. Call it outside tests. */
export function temporaryDirectory(base = CACHE_DIRECTORY): string {
  mkdirSync(base, { recursive: true });
  const directory = mkdtempSync(join(base, "test-"));
  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

/** Collects what earlier tests dropped, finalizers included, so that only this test changes what V8 is told. */
export async function collectGarbage(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let round = 0; round < 2; round++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Seeded bytes without repetition. */
export function noise(sizeBytes: number, seed = 1): Buffer {
  const key = Buffer.alloc(16);
  key.writeInt32LE(seed | 0);
  return createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes));
}

export function writeNoise(path: string, sizeBytes: number, seed = 1): Buffer {
  const bytes = noise(sizeBytes, seed);
  writeFileSync(path, bytes);
  return bytes;
}

export function toRanges(pairs: readonly (readonly [number, number])[]): ByteRanges {
  return {
    offsetsBytes: Float64Array.from(pairs, ([offset]) => offset),
    lengthsBytes: Float64Array.from(pairs, ([, length]) => length),
    count: pairs.length,
  };
}

/** `count` ranges of `lengthBytes` at seeded places, ascending. */
export function scattered(
  reader: FlashReader,
  count: number,
  lengthBytes: number,
  seed: number,
): ByteRanges {
  const random = noise(4 * count, seed);
  const places = reader.sizeBytes - lengthBytes + 1;
  const offsets = Array.from({ length: count }, (_, i) => random.readUInt32LE(4 * i) % places);
  offsets.sort((a, b) => a - b);
  return toRanges(offsets.map((offset) => [offset, lengthBytes] as const));
}

/** Opens a reader for `use` and closes it whatever happens. */
export async function withReader<T>(
  path: string,
  options: FlashReaderOptions,
  use: (reader: FlashReader) => Promise<T>,
): Promise<T> {
  const reader = await FlashReader.open(path, options);
  try {
    return await use(reader);
  } finally {
    await reader.close();
  }
}

/** The index of the first view that differs from the file's bytes, or -1. */
export function firstWrongView(result: ReadResult, ranges: ByteRanges, file: Buffer): number {
  for (let i = 0; i < result.count; i++) {
    const start = ranges.offsetsBytes[i];
    const expected = file.subarray(start, start + ranges.lengthsBytes[i]);
    if (!expected.equals(result.view(i))) return i;
  }
  return -1;
}

/** The FlashReaderError that `promise` rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<FlashReaderError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof FlashReaderError) return error;
    throw error;
  }
  throw new Error("expected a rejection");
}

/** NCHUNK_TEST_SEED, or a new seed; put it in the message of what it decides. */
export function testSeed(): number {
  const given = process.env.NCHUNK_TEST_SEED;
  return given === undefined ? randomBytes(4).readInt32LE() : Number(given);
}

/** How much a randomised test does; more under NCHUNK_SOAK. */
export function effort(usual: number, soak: number): number {
  return process.env.NCHUNK_SOAK === undefined ? usual : soak;
}

/** The path of a program in `scripts/`, which child processes and workers run. */
export function script(name: string): string {
  return fileURLToPath(new URL(`./scripts/${name}`, import.meta.url));
}
