import { statfs } from "node:fs/promises";
import { NchunkError } from "../../errors";
import { formatBytes } from "../../terminal/format";

/** Left free beside what is written, so that a bench never fills a disk. */
const SPACE_MARGIN_BYTES = 512 * 2 ** 20;

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/**
 * Throws DISK_FULL unless `folder` has room for `neededBytes` and a margin.
 * @param freeBytesIn How much is free in a folder; by default what the file system says.
 */
export async function requireDiskSpace(
  folder: string,
  neededBytes: number,
  freeBytesIn: (folder: string) => Promise<number> = freeBytesOf,
): Promise<void> {
  const freeBytes = await freeBytesIn(folder);
  const wantedBytes = neededBytes + SPACE_MARGIN_BYTES;
  if (freeBytes >= wantedBytes) return;
  throw new NchunkError(
    "DISK_FULL",
    `${folder} has ${formatBytes(freeBytes)} free; writing this model takes ${formatBytes(wantedBytes)}. ` +
      "Free some, use --size 0.5b, or give a folder on another disk with --dir.",
  );
}
