import { mkdir, stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { NchunkError } from "./errors";

/**
 * Where converted models, device profiles and probe files are kept: `NCHUNK_CACHE_DIR`, else
 * `nchunk` under the user's cache directory (XDG). It must lie on the disk whose speed matters.
 */
function cacheRoot(): string {
  const explicit = process.env["NCHUNK_CACHE_DIR"];
  if (explicit) return path.resolve(explicit);
  const userCache = process.env["XDG_CACHE_HOME"] || path.join(os.homedir(), ".cache");
  return path.join(userCache, "nchunk");
}

/** Makes a folder of the cache and returns its path. Throws CACHE_NOT_WRITABLE. */
export async function cacheFolder(...segments: string[]): Promise<string> {
  const folder = path.join(cacheRoot(), ...segments);
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new NchunkError(
      "CACHE_NOT_WRITABLE",
      `The cache folder ${folder} cannot be made (${(cause as Error).message}). ` +
        "Set NCHUNK_CACHE_DIR to a folder on a disk you may write to.",
      { cause },
    );
  }
  return folder;
}

/** Throws INVALID_ARGUMENT unless `directory` is a folder; `use` says what it will be used for. */
export async function requireFolder(directory: string, use: string): Promise<void> {
  const isFolder = await stat(directory).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isFolder) return;
  throw new NchunkError(
    "INVALID_ARGUMENT",
    `${directory} is not a folder. Give a folder on the disk to measure; ${use}.`,
  );
}
