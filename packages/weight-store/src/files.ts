import { createHash } from "node:crypto";
import { open, rename, rm, statfs, type FileHandle } from "node:fs/promises";
import { WeightStoreError, withFileErrors } from "./errors.js";

/** Large enough that a call's overhead vanishes, small enough to keep two of them without thinking. */
export const BLOCK_BYTES = 8 * 1024 * 1024;

/** Reads exactly `into.length` bytes. @throws WeightStoreError TRUNCATED where the file ends before. */
export async function readFully(
  file: FileHandle,
  path: string,
  into: Uint8Array,
  offsetBytes: number,
): Promise<void> {
  for (let done = 0; done < into.length;) {
    const { bytesRead } = await file.read(into, done, into.length - done, offsetBytes + done);
    if (bytesRead === 0) {
      throw new WeightStoreError(
        "TRUNCATED",
        `${path} ended at byte ${offsetBytes + done} while ${into.length} bytes were read from ${offsetBytes}. ` +
          `It was cut while in use, or its disk is failing.`,
        { path, offsetBytes, lengthBytes: into.length, got: done },
      );
    }
    done += bytesRead;
  }
}

/** Writes every byte, resuming short writes. */
export async function writeFully(
  file: FileHandle,
  bytes: Uint8Array,
  offsetBytes: number,
): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, offsetBytes + done);
    done += bytesWritten;
  }
}

/** Two buffers to read the next block into while the last one is used. */
export function blockPair(blockBytes: number): [Uint8Array, Uint8Array] {
  return [new Uint8Array(blockBytes), new Uint8Array(blockBytes)];
}

/**
 * Reads a byte range block by block, the next block already on its way while `use` works on the last.
 * @param use Called in order; the bytes are valid until it settles.
 */
export async function readBlocks(
  file: FileHandle,
  path: string,
  range: { offsetBytes: number; lengthBytes: number; blockBytes: number },
  buffers: readonly [Uint8Array, Uint8Array],
  use: (bytes: Uint8Array, doneBytes: number) => Promise<void> | void,
): Promise<void> {
  const { offsetBytes, lengthBytes, blockBytes } = range;
  const read = async (doneBytes: number, turn: number) => {
    const bytes = buffers[turn].subarray(0, Math.min(blockBytes, lengthBytes - doneBytes));
    await readFully(file, path, bytes, offsetBytes + doneBytes);
    return bytes;
  };
  let pending = lengthBytes > 0 ? read(0, 0) : undefined;
  for (let done = 0, turn = 0; pending !== undefined; turn ^= 1) {
    const bytes = await pending;
    const next = done + bytes.length;
    pending = next < lengthBytes ? read(next, turn ^ 1) : undefined;
    try {
      await use(bytes, done);
    } catch (error) {
      await pending?.catch(() => undefined);
      throw error;
    }
    done = next;
  }
}

/** SHA-256 of a whole file, hex. */
export async function hashFile(
  path: string,
  onBytes: (bytes: number) => void = () => undefined,
): Promise<string> {
  return withFileErrors("hash", path, async () => {
    const file = await open(path, "r");
    try {
      const lengthBytes = (await file.stat()).size;
      const hash = createHash("sha256");
      const blockBytes = Math.min(BLOCK_BYTES, Math.max(lengthBytes, 1));
      const range = { offsetBytes: 0, lengthBytes, blockBytes };
      await readBlocks(file, path, range, blockPair(blockBytes), (bytes) => {
        hash.update(bytes);
        onBytes(bytes.length);
      });
      return hash.digest("hex");
    } finally {
      await file.close();
    }
  });
}

/** Makes a directory's entries durable. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } catch (error) {
    // Some file systems cannot sync a directory and keep its entries durable by themselves.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EINVAL" && code !== "EPERM" && code !== "ENOTSUP") throw error;
  } finally {
    await handle.close();
  }
}

/** Writes a small file durably: bytes first, then, by rename, its name. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const file = await open(temporary, "w");
    try {
      await writeFully(file, new TextEncoder().encode(text), 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** @throws WeightStoreError NO_SPACE when the file system of `dir` has fewer than `neededBytes` left for us. */
export async function requireSpace(dir: string, neededBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  const freeBytes = bavail * bsize;
  if (freeBytes >= neededBytes) return;
  throw new WeightStoreError(
    "NO_SPACE",
    `The flash image needs ${mebibytes(neededBytes)} more at ${dir}, ${mebibytes(freeBytes)} are free. ` +
      `Free some space or choose another output directory.`,
    { path: dir, lengthBytes: neededBytes, expected: neededBytes, got: freeBytes },
  );
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 1024 / 1024)} MiB`;
}
