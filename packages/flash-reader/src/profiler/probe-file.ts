import { createCipheriv } from "node:crypto";
import type { Cipher } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, rename, rm, stat, statfs } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { binding } from "../binding.js";
import { errnoName, FlashReaderError } from "../errors.js";
import { LandingBuffer } from "../landing-buffer.js";

/** Left free on the file system beside the probe file, so that profiling never fills a disk. */
const SPACE_MARGIN_BYTES = 64 << 20;
const WRITE_BYTES = 8 << 20;
/** The content of a probe file depends on these and its size; a change needs a new file name. */
const PROBE_VERSION = 1;
const PROBE_KEY = Buffer.from("flash-probe-file");
const AES_BLOCK_BYTES = 16;
/** Places where a kept probe file is compared with what was once written. */
const SPOT_CHECKS = 16;
const SPOT_BYTES = 4096;

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

/**
 * The path of a probe file with `fileBytes` bytes of incompressible data and no holes. One from an
 * earlier run is used again after a spot check; else one is written under a temporary name, synced
 * and renamed, so that an interrupted run leaves nothing half-made.
 *
 * Rejects with NO_SPACE, IO_ERROR or the signal's reason.
 */
export async function ensureProbeFile(options: ProbeFileOptions): Promise<string> {
  const { directory, fileBytes, signal } = options;
  signal?.throwIfAborted();
  await mkdir(directory, { recursive: true });
  const path = join(directory, `flash-probe-v${PROBE_VERSION}-${fileBytes >> 20}MiB.bin`);
  if (await isIntact(path, fileBytes)) return path;
  await requireSpace(directory, fileBytes);
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeProbe(temporary, options);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return path;
}

async function isIntact(path: string, fileBytes: number): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  // Fewer blocks than bytes means holes, which are read without any device.
  if (found?.isFile() !== true || found.size !== fileBytes) return false;
  if (found.blocks * 512 < fileBytes) return false;
  const file = await open(path, "r");
  try {
    const spot = Buffer.alloc(SPOT_BYTES);
    for (let i = 0; i < SPOT_CHECKS; i++) {
      const spots = fileBytes / SPOT_BYTES;
      const offset = Math.floor(((i + 0.5) / SPOT_CHECKS) * spots) * SPOT_BYTES;
      await file.read(spot, 0, SPOT_BYTES, offset);
      if (!spot.equals(probeStream(offset).update(Buffer.alloc(SPOT_BYTES)))) return false;
    }
    return true;
  } finally {
    await file.close();
  }
}

async function requireSpace(directory: string, fileBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const needed = fileBytes + SPACE_MARGIN_BYTES;
  if (bavail * bsize >= needed) return;
  throw noSpace(directory, needed, bavail * bsize);
}

function noSpace(directory: string, expected: number, got?: number): FlashReaderError {
  const found = got === undefined ? "the file system is full" : `${got >> 20} MiB are free`;
  return new FlashReaderError(
    "NO_SPACE",
    `The device profile needs ${Math.ceil(expected / 2 ** 20)} MiB in ${directory}, but ${found}. ` +
      "Free some space, choose another directory, or pass a smaller fileBytes.",
    { path: directory, expected, got, errno: "ENOSPC" },
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

async function writeProbe(path: string, options: ProbeFileOptions): Promise<void> {
  const { fileBytes, signal, onFraction } = options;
  const file = await createProbe(path);
  try {
    const errno = errnoName(await binding.preallocate(file.fd, fileBytes));
    if (errno === "ENOSPC") throw noSpace(options.directory, fileBytes);
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
