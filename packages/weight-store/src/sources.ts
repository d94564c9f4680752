import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { checkpointFile, type Checkpoint } from "./checkpoint.js";
import { companionFiles } from "./companions.js";
import { WeightStoreError, withFileErrors } from "./errors.js";
import { manifestHead } from "./manifest.js";
import { quantisedFormat, type GroupSize, type QuantisedDType } from "./quantised-row.js";

/** A file an image is made from, as found on disk. */
export interface SourceState {
  name: string;
  path: string;
  sizeBytes: number;
  mtimeMs: number;
  weights: boolean;
}

/** Options that decide the bytes of an image. */
export interface ImageOptions {
  /** Quantises the bundles' weights; absent: they are stored bit for bit as in the checkpoint. */
  dtype?: QuantisedDType | undefined;
  /** Neighbouring columns that share a scale, with `dtype` (default 32). */
  groupSize?: GroupSize | undefined;
  /** Projections that share an input side by side in one row (default true). */
  bundled?: boolean | undefined;
  /** By bundle name: permutation[stored row] = original input channel (hot-cold reordering, paper section 3.3). */
  permutations?: Readonly<Record<string, Uint32Array>> | undefined;
}

/** Every file of the checkpoint that matters to an image, by name. */
export async function sourceStates(
  checkpoint: Pick<Checkpoint, "dir" | "weightFiles">,
): Promise<SourceState[]> {
  const companions = await companionFiles(checkpoint.dir);
  const weights = await Promise.all(
    checkpoint.weightFiles.map(async (name) => ({
      name,
      path: await checkpointFile(checkpoint.dir, name),
      weights: true,
    })),
  );
  const files = [...companions.map((file) => ({ ...file, weights: false })), ...weights];
  return Promise.all(
    files.map(async (file) => {
      const { size, mtimeMs } = await withFileErrors("read", file.path, () => stat(file.path));
      return { ...file, sizeBytes: size, mtimeMs };
    }),
  );
}

/** @throws WeightStoreError SOURCE_CHANGED when a file is not what it was. */
export async function requireUnchanged(sources: readonly SourceState[]): Promise<void> {
  for (const { path, sizeBytes, mtimeMs } of sources) {
    const now = await withFileErrors("read", path, () => stat(path));
    if (now.size === sizeBytes && now.mtimeMs === mtimeMs) continue;
    throw new WeightStoreError(
      "SOURCE_CHANGED",
      `${path} changed while it was converted. Run again once its download or export is finished.`,
      {
        path,
        expected: { sizeBytes, mtimeMs },
        got: { sizeBytes: now.size, mtimeMs: now.mtimeMs },
      },
    );
  }
}

/** Names the options: images of one checkpoint with equal hashes have equal bytes. */
export function optionsSha256(options: ImageOptions): string {
  const hash = createHash("sha256");
  const quantised = quantisedFormat(options);
  const { schemaVersion } = manifestHead(quantised !== undefined);
  const bundled = options.bundled ?? true;
  hash.update(JSON.stringify({ schemaVersion, bundled, ...quantised }));
  const permutations = Object.entries(options.permutations ?? {});
  for (const [name, permutation] of permutations.sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(JSON.stringify([name, permutation.length]));
    hash.update(new Uint8Array(permutation.buffer, permutation.byteOffset, permutation.byteLength));
  }
  return hash.digest("hex");
}
