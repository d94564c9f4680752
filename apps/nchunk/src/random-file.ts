import { createCipheriv } from "node:crypto";
import { open, rename, rm, stat, statfs } from "node:fs/promises";
import path from "node:path";
import { NchunkError } from "./errors";
import { formatBytes } from "./terminal/format";
import type { ReportProgress } from "./terminal/progress";

const WRITE_SLICE_BYTES = 8 * 2 ** 20;
/** Left free beside the file, so that a measurement never fills a disk. */
const SPACE_MARGIN_BYTES = 128 * 2 ** 20;
const CONTENT_KEY = Buffer.from("nchunk-rand-file");
const AES_BLOCK_BYTES = 16;

/**
 * The bytes that such a file holds from `offsetBytes` on: an AES keystream, which no device can
 * compress and which a test can compute again.
 */
export function randomFileBytes(offsetBytes: number, lengthBytes: number): Buffer {
  const skipBytes = offsetBytes % AES_BLOCK_BYTES;
  const counter = Buffer.alloc(AES_BLOCK_BYTES);
  counter.writeBigUInt64BE(BigInt((offsetBytes - skipBytes) / AES_BLOCK_BYTES), 8);
  const stream = createCipheriv("aes-128-ctr", CONTENT_KEY, counter);
  return stream.update(Buffer.alloc(skipBytes + lengthBytes)).subarray(skipBytes);
}

async function requireSpace(folder: string, sizeBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const neededBytes = sizeBytes + SPACE_MARGIN_BYTES;
  if (bavail * bsize >= neededBytes) return;
  throw new NchunkError(
    "DISK_FULL",
    `${folder} has ${formatBytes(bavail * bsize)} free; this measurement needs ${formatBytes(neededBytes)}. ` +
      "Free some, or set NCHUNK_CACHE_DIR to a folder on another disk.",
  );
}

/** Whether an earlier run left the whole file; fewer blocks than bytes means holes, which no device reads. */
async function isComplete(file: string, sizeBytes: number): Promise<boolean> {
  const found = await stat(file).catch(() => undefined);
  return found?.size === sizeBytes && found.blocks * 512 >= sizeBytes;
}

/**
 * The path of a file of incompressible bytes, written once and kept. A run that is killed leaves no
 * half-written file behind the name. Throws DISK_FULL or the signal's reason.
 */
export async function ensureRandomFile(
  file: string,
  sizeBytes: number,
  report: ReportProgress,
  signal?: AbortSignal,
): Promise<string> {
  if (await isComplete(file, sizeBytes)) return file;
  await requireSpace(path.dirname(file), sizeBytes);
  const temporary = `${file}.${process.pid}.tmp`;
  const handle = await open(temporary, "w");
  try {
    for (let written = 0; written < sizeBytes; written += WRITE_SLICE_BYTES) {
      signal?.throwIfAborted();
      const lengthBytes = Math.min(WRITE_SLICE_BYTES, sizeBytes - written);
      await handle.writeFile(randomFileBytes(written, lengthBytes));
      report(written / sizeBytes, "writing random bytes, once");
    }
    await handle.sync();
    await handle.close();
    await rename(temporary, file);
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
  return file;
}
