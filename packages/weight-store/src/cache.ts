import { createHash } from "node:crypto";
import { realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { findWeightFiles } from "./checkpoint.js";
import { convertCheckpoint, type ConvertOptions } from "./convert.js";
import { WeightStoreError, withFileErrors } from "./errors.js";
import { hashFile } from "./files.js";
import { readManifest, writeManifest, type Manifest, type SourceFile } from "./manifest.js";
import { optionsSha256, sourceStates, type ImageOptions } from "./sources.js";

/** How often a finished conversion of another process is looked for. */
const BUSY_POLL_MS = 250;

export interface EnsureFlashImageOptions extends Omit<ConvertOptions, "outputDir" | "overwrite"> {
  /** Directory of all cached images; created when absent. */
  cacheDir: string;
}

/** A flash image that stands for the checkpoint as it is now. */
export interface EnsuredFlashImage {
  dir: string;
  manifest: Manifest;
  /** Whether it had to be converted, or was there. */
  converted: boolean;
}

/**
 * Converts a checkpoint unless the cache has an image of it that is up to date. The image's place depends on the
 * checkpoint's real path and on the options; while another process converts the same one, this waits for it.
 * @throws As convertCheckpoint.
 */
export async function ensureFlashImage(
  options: EnsureFlashImageOptions,
): Promise<EnsuredFlashImage> {
  const { cacheDir, checkpointDir, signal } = options;
  const dir = join(cacheDir, await cacheName(checkpointDir, options));
  for (;;) {
    signal?.throwIfAborted();
    const current = await compareWithSources(dir, checkpointDir, options);
    if (current !== undefined) {
      const { manifest, sourceFiles } = current;
      if (sourceFiles !== undefined) await rememberTimes(dir, manifest, sourceFiles);
      return { dir, manifest, converted: false };
    }
    try {
      const manifest = await convertCheckpoint({ ...options, outputDir: dir, overwrite: true });
      return { dir, manifest, converted: true };
    } catch (error) {
      if (!(error instanceof WeightStoreError && error.code === "BUSY")) throw error;
      await setTimeout(BUSY_POLL_MS, undefined, signal === undefined ? {} : { signal });
    }
  }
}

async function cacheName(checkpointDir: string, options: ImageOptions): Promise<string> {
  const real = await withFileErrors("open the checkpoint", checkpointDir, () =>
    realpath(checkpointDir),
  );
  const key = createHash("sha256").update(JSON.stringify([real, optionsSha256(options)]));
  return `${basename(real)}-${key.digest("hex").slice(0, 16)}`;
}

/**
 * Whether the flash image in `dir` was made from `checkpointDir` as it is now, with these options. Compares names,
 * sizes and modification times; a file that only its time tells apart is hashed.
 * @returns false for an image that is absent, unreadable or of another version.
 */
export async function isUpToDate(
  dir: string,
  checkpointDir: string,
  options: ImageOptions = {},
): Promise<boolean> {
  return (await compareWithSources(dir, checkpointDir, options)) !== undefined;
}

/** @returns The manifest of an image that is up to date, with its sources' new times where these changed. */
async function compareWithSources(
  dir: string,
  checkpointDir: string,
  options: ImageOptions,
): Promise<{ manifest: Manifest; sourceFiles?: SourceFile[] } | undefined> {
  const manifest = await readManifest(dir).catch((error: unknown) => {
    if (error instanceof WeightStoreError && error.code !== "IO_ERROR") return undefined;
    throw error;
  });
  if (manifest === undefined || manifest.source.optionsSha256 !== optionsSha256(options)) {
    return undefined;
  }
  if (!(await isWhole(dir, manifest))) return undefined;
  const weightFiles = (await findWeightFiles(checkpointDir)).files;
  const now = await sourceStates({ dir: checkpointDir, weightFiles });
  const then = new Map(manifest.source.files.map((file) => [file.name, file]));
  if (now.length !== then.size) return undefined;
  const sourceFiles: SourceFile[] = [];
  let touched = false;
  for (const { name, path, sizeBytes, mtimeMs } of now) {
    const file = then.get(name);
    if (file?.sizeBytes !== sizeBytes) return undefined;
    if (file.mtimeMs !== mtimeMs) {
      touched = true;
      if (file.sha256 !== (await hashFile(path))) return undefined;
    }
    sourceFiles.push({ ...file, mtimeMs });
  }
  return touched ? { manifest, sourceFiles } : { manifest };
}

/** Notes the new times of unchanged files, so that they are not hashed at every start; a read-only image stays as it is. */
async function rememberTimes(dir: string, manifest: Manifest, files: SourceFile[]): Promise<void> {
  manifest.source.files = files;
  await writeManifest(dir, manifest).catch(() => undefined);
}

/** Whether every file of the image is there in its size. */
async function isWhole(dir: string, { flash, resident, files }: Manifest): Promise<boolean> {
  const expected = [
    { name: flash.file, sizeBytes: flash.sizeBytes },
    { name: resident.file, sizeBytes: resident.sizeBytes },
    ...files,
  ];
  for (const { name, sizeBytes } of expected) {
    const size = await stat(join(dir, name)).then(
      (found) => found.size,
      () => undefined,
    );
    if (size !== sizeBytes) return false;
  }
  return true;
}
