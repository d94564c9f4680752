import { createCipheriv, randomUUID } from "node:crypto";
import type { Cipher } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { binding } from "../binding.js";
import { errnoName, FlashReaderError } from "../errors.js";
import { LandingBuffer } from "../landing-buffer.js";
import { FlashReader } from "../reader.js";
import { checkExtents } from "./extents.js";
import type { ExtentCheck } from "./extents.js";

/** Left free on the file system beside the probe file, so that profiling never fills a disk. */
const SPACE_MARGIN_BYTES = 64 << 20;
const WRITE_BYTES = 8 << 20;
const ABANDONED_AFTER_MS = 3600 * 1000;
/** The content of a probe file depends on these and its size; a change needs a new file name. */
const CONTENT_VERSION = 1;
const PROBE_KEY = Buffer.from("flash-probe-file");
const AES_BLOCK_BYTES = 16;
/** Places where a kept probe file is compared with what was once written. */
const SPOT_CHECKS = 16;
const SPOT_BYTES = 4096;
const MIB = 1 << 20;

export interface ProbeFileOptions {
  readonly directory: string;
  /** A positive multiple of 1 MiB. */
  readonly fileBytes: number;
  readonly onFraction?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The bytes of every probe file from `offsetBytes` on: an AES keystream, which nothing can compress. */
function probeStream(offsetBytes: number): Cipher {
  const counter = Buffer.alloc(AES_BLOCK_BYTES);
  counter.writeBigUInt64BE(BigInt(offsetBytes / AES_BLOCK_BYTES), 8);
  return createCipheriv("aes-128-ctr", PROBE_KEY, counter);
}

/** A probe file that is ready to be read. */
export interface ProbeFile {
  readonly path: string;
  readonly fileBytes: number;
  readonly extents: ExtentCheck;
}

export function probePath(directory: string, fileBytes: number): string {
  return join(directory, `flash-probe-v${CONTENT_VERSION}-${fileBytes / MIB}MiB.bin`);
}

/**
 * A probe file with `fileBytes` bytes of incompressible data and no holes. One from an earlier run is
 * used again after a spot check; else one is written under a temporary name, synced and renamed, so
 * that an interrupted run leaves nothing half-made.
 *
 * Rejects with NO_SPACE, OPEN_FAILED (the directory cannot be written to), IO_ERROR or the signal's
 * reason.
 */
export async function ensureProbeFile(options: ProbeFileOptions): Promise<ProbeFile> {
  const { directory, fileBytes, signal } = options;
  signal?.throwIfAborted();
  await mkdir(directory, { recursive: true }).catch((error: unknown) => {
    throw notWritable(directory, error);
  });
  const path = probePath(directory, fileBytes);
  const kept = await intactExtents(path, fileBytes);
  if (kept !== undefined) return { path, fileBytes, extents: kept };
  await removeAbandoned(directory);
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const extents = await writeProbe(temporary, options);
    await rename(temporary, path).catch((error: unknown) => {
      throw notWritable(directory, error);
    });
    return { path, fileBytes, extents };
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/**
 * The size of probe file to use when the caller names none: `wantedBytes`, or as much of it as the disk
 * allows. At least `leastBytes`: less would say nothing, and is refused later.
 */
export async function affordableBytes(
  directory: string,
  wantedBytes: number,
  leastBytes: number,
): Promise<number> {
  const found = await stat(probePath(directory, wantedBytes)).catch(() => undefined);
  if (found?.size === wantedBytes) return wantedBytes;
  const freeBytes = await statfs(directory).then(
    ({ bavail, bsize }) => bavail * bsize - SPACE_MARGIN_BYTES,
    // A folder that does not exist yet; making it will tell what is wrong.
    () => wantedBytes,
  );
  const steps = Math.floor(freeBytes / leastBytes);
  return Math.max(leastBytes, Math.min(wantedBytes, steps * leastBytes));
}

/** Removes what processes that were killed left of their probe files; nobody writes for as long. */
async function removeAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!/^flash-probe-.*\.tmp$/.test(name)) continue;
    const path = join(directory, name);
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined && Date.now() - found.mtimeMs > ABANDONED_AFTER_MS) {
      await rm(path, { force: true });
    }
  }
}

/** The extents of a probe file that can be used; undefined when there is none. */
async function intactExtents(path: string, fileBytes: number): Promise<ExtentCheck | undefined> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile() !== true || found.size !== fileBytes) return undefined;
  const file = await open(path, "r").catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const extents = await checkExtents(file);
    return extents.missingBytes === 0 && (await hasProbeContent(path, fileBytes))
      ? extents
      : undefined;
  } finally {
    await file.close();
  }
}

/** Looks at a few places, past the page cache: reading ahead would go on while we measure. */
async function hasProbeContent(path: string, fileBytes: number): Promise<boolean> {
  const places = fileBytes / SPOT_BYTES;
  const offsetsBytes = Float64Array.from(
    { length: SPOT_CHECKS },
    (_, i) => Math.floor(((i + 0.5) / SPOT_CHECKS) * places) * SPOT_BYTES,
  );
  const lengthsBytes = new Float64Array(SPOT_CHECKS).fill(SPOT_BYTES);
  const reader = await FlashReader.open(path);
  try {
    const result = await reader.read({ offsetsBytes, lengthsBytes, count: SPOT_CHECKS });
    return offsetsBytes.every((offset, i) => {
      const expected = probeStream(offset).update(Buffer.alloc(SPOT_BYTES));
      return expected.equals(result.view(i));
    });
  } finally {
    await reader.close();
  }
}

async function requireSpace(directory: string, fileBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const needed = fileBytes + SPACE_MARGIN_BYTES;
  if (bavail * bsize >= needed) return;
  throw noSpace(directory, needed, bavail * bsize);
}

function noSpace(directory: string, expected: number, got?: number): FlashReaderError {
  const found =
    got === undefined ? "the file system is full" : `${Math.floor(got / MIB)} MiB are free`;
  return new FlashReaderError(
    "NO_SPACE",
    `The device profile needs ${Math.ceil(expected / MIB)} MiB in ${directory}, but ${found}. ` +
      "Free some space, choose another directory, or pass a smaller fileBytes.",
    { path: directory, expected, got, errno: "ENOSPC" },
  );
}

function notWritable(directory: string, cause: unknown): FlashReaderError {
  const errno = (cause as NodeJS.ErrnoException).code;
  return new FlashReaderError(
    "OPEN_FAILED",
    `No probe file can be written in ${directory} (${errno ?? String(cause)}). ` +
      "Choose a directory on the same disk that may be written to.",
    { path: directory, errno, cause },
  );
}

/** Opened past the page cache where that works: the probe should not push other files out of memory. */
async function createProbe(path: string): Promise<FileHandle> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
  await rm(path, { force: true });
  try {
    return await open(path, flags | constants.O_DIRECT, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
    await rm(path, { force: true });
    return open(path, flags, 0o600);
  }
}

async function writeProbe(path: string, options: ProbeFileOptions): Promise<ExtentCheck> {
  const { directory, fileBytes, signal, onFraction } = options;
  const file = await createProbe(path).catch((error: unknown) => {
    throw notWritable(directory, error);
  });
  try {
    await requireSpace(directory, fileBytes);
    const errno = errnoName(await binding.preallocate(file.fd, fileBytes));
    if (errno === "ENOSPC") throw noSpace(directory, fileBytes);
    if (errno !== undefined && errno !== "ENOTSUP" && errno !== "ENOSYS") {
      throw new FlashReaderError("IO_ERROR", `${path} could not be preallocated (${errno}).`, {
        path,
        errno,
      });
    }
    const stream = probeStream(0);
    const landing = new LandingBuffer(WRITE_BYTES);
    const zeros = Buffer.alloc(WRITE_BYTES);
    for (let offset = 0; offset < fileBytes; offset += WRITE_BYTES) {
      signal?.throwIfAborted();
      const length = Math.min(WRITE_BYTES, fileBytes - offset);
      landing.bytes.set(stream.update(zeros.subarray(0, length)));
      await writeAll(file, landing.bytes.subarray(0, length), offset);
      onFraction?.((offset + length) / fileBytes);
    }
    await file.sync();
    const extents = await checkExtents(file);
    if (extents.missingBytes === 0) return extents;
    throw new FlashReaderError(
      "IO_ERROR",
      `${path} has ${extents.missingBytes} bytes that are on no device although they were written and synced ` +
        `(${extents.method}). Choose a directory on another file system.`,
      { path, expected: 0, got: extents.missingBytes },
    );
  } catch (error) {
    // Other files may have taken what was free when we looked.
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") throw noSpace(directory, fileBytes);
    throw error;
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, offsetBytes: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, offsetBytes + done);
    done += bytesWritten;
  }
}
