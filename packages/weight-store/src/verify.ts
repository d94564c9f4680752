import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { WeightStoreError, withFileErrors } from "./errors.js";
import { blockPair, BLOCK_BYTES, hashFile, readBlocks } from "./files.js";
import { readManifest } from "./manifest.js";

export interface VerifyOptions {
  onProgress?: ((bytesDone: number, bytesTotal: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

interface HashedRange {
  name: string;
  offsetBytes: number;
  lengthBytes: number;
  sha256: string;
}

/**
 * Hashes every bundle, resident tensor and copied file of an image against its manifest.
 * @throws WeightStoreError CORRUPT_IMAGE naming the first that differs, TRUNCATED, NOT_FOUND, INVALID_MANIFEST.
 */
export async function verifyFlashImage(dir: string, options: VerifyOptions = {}): Promise<void> {
  const { flash, resident, files } = await readManifest(dir);
  const bundles = flash.bundles.map((bundle) => ({
    ...bundle,
    lengthBytes: bundle.rows * bundle.rowBytes,
  }));
  const sizes = [...bundles, ...resident.tensors].map(({ lengthBytes }) => lengthBytes);
  const bytesTotal = [...sizes, ...files.map(({ sizeBytes }) => sizeBytes)].reduce(
    (sum, size) => sum + size,
    0,
  );
  let bytesDone = 0;
  const advance = (bytes: number) => {
    options.signal?.throwIfAborted();
    bytesDone += bytes;
    options.onProgress?.(bytesDone, bytesTotal);
  };
  await verifyRanges(join(dir, flash.file), bundles, advance);
  await verifyRanges(join(dir, resident.file), resident.tensors, advance);
  for (const { name, sha256 } of files) {
    const path = join(dir, name);
    requireHash(path, name, sha256, await hashFile(path, advance));
  }
}

async function verifyRanges(
  path: string,
  ranges: readonly HashedRange[],
  onBytes: (bytes: number) => void,
): Promise<void> {
  await withFileErrors("verify", path, async () => {
    const file = await open(path, "r");
    try {
      const buffers = blockPair(BLOCK_BYTES);
      for (const { name, offsetBytes, lengthBytes, sha256 } of ranges) {
        const hash = createHash("sha256");
        const range = { offsetBytes, lengthBytes, blockBytes: BLOCK_BYTES };
        await readBlocks(file, path, range, buffers, (bytes) => {
          hash.update(bytes);
          onBytes(bytes.length);
        });
        requireHash(path, name, sha256, hash.digest("hex"));
      }
    } finally {
      await file.close();
    }
  });
}

function requireHash(path: string, name: string, expected: string, got: string): void {
  if (expected === got) return;
  throw new WeightStoreError(
    "CORRUPT_IMAGE",
    `${path}: the bytes of ${name} are not those that were written. Check the disk and convert the checkpoint again.`,
    { path, name, expected, got },
  );
}
