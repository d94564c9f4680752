import type { FileHandle } from "node:fs/promises";
import { binding } from "../binding.js";
import { errnoName } from "../errors.js";

/** Whether all bytes of a file lie on the device as they are read (P1). */
export interface ExtentCheck {
  /** `FIEMAP`, or `st_blocks` where the file system has no FIEMAP: that sees holes, but not unwritten extents. */
  readonly method: "FIEMAP" | "st_blocks";
  /** Bytes that no device holds: they are read without any. */
  readonly missingBytes: number;
  /** Bytes that the file system stores in another form, such as compressed. */
  readonly encodedBytes: number;
  readonly extents?: number;
  /** Why FIEMAP did not answer. */
  readonly errno?: string;
}

export async function checkExtents(file: FileHandle): Promise<ExtentCheck> {
  const { size, blocks } = await file.stat();
  const found = await binding.fileExtents(file.fd);
  if (found.errno !== 0) {
    const errno = errnoName(found.errno);
    return {
      method: "st_blocks",
      missingBytes: Math.max(0, size - blocks * 512),
      encodedBytes: 0,
      ...(errno !== undefined && { errno }),
    };
  }
  return {
    method: "FIEMAP",
    missingBytes: size - found.mappedBytes + found.unwrittenBytes,
    encodedBytes: found.encodedBytes,
    extents: found.extents,
  };
}

/** Bytes of the file that the page cache holds; undefined where the system does not say. */
export async function cachedBytes(file: FileHandle): Promise<number | undefined> {
  const { cachedBytes: bytes } = await binding.fileExtents(file.fd);
  return bytes < 0 ? undefined : bytes;
}
