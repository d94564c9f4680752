import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { cacheFolder, requireFolder } from "../cache";
import { ensureRandomFile } from "../random-file";
import { withProgress } from "../terminal/progress";

const run = promisify(execFile);

/** The folder on the measured disk: in the cache, or in the folder that `--dir` names. Throws INVALID_ARGUMENT. */
export async function benchFolder(directory: string | undefined): Promise<string> {
  if (directory === undefined) return cacheFolder("bench");
  await requireFolder(directory, "a file is kept in nchunk-bench in it");
  const folder = path.resolve(directory, "nchunk-bench");
  await mkdir(folder, { recursive: true });
  return folder;
}

/** The file that every bench reads. */
export interface BenchFile {
  readonly folder: string;
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
}

/** Writes the file once and keeps it. */
export async function ensureBenchFile(
  folder: string,
  sizeBytes: number,
  signal: AbortSignal,
): Promise<BenchFile> {
  const name = `random-${sizeBytes / 2 ** 20}MiB.bin`;
  const file = await withProgress("Preparing the file to read", (report) =>
    ensureRandomFile(path.join(folder, name), sizeBytes, report, signal),
  );
  return { folder, name, path: file, sizeBytes };
}

/**
 * Makes the page cache forget the file, so that a buffered read of it comes from the device.
 * False when that cannot be asked for here: `dd` is the one common tool that can (posix_fadvise).
 */
export async function dropCachedPages(file: BenchFile): Promise<boolean> {
  const args = [`if=${file.path}`, "iflag=nocache", "count=0", "status=none"];
  return run("dd", args).then(
    () => true,
    () => false,
  );
}
