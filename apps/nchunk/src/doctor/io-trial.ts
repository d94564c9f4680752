import { createHash, randomBytes } from "node:crypto";
import { open, rm } from "node:fs/promises";
import path from "node:path";
import type { BackendInfo } from "@neuron-chunking/flash-reader";
import type * as FlashReaderExports from "@neuron-chunking/flash-reader";

const BLOCK_BYTES = 4096;
const BLOCKS = 64;
/** Rows of a 0.5B model: no multiple of any block, so that widening is tried too. */
const ROW_BYTES = 1792;
const ROW_STEP = 7;

/** One way of reading that was tried: it read the right bytes, or this is why not. */
export type TrialResult =
  | { readonly backend: BackendInfo; readonly alignmentBytes: number; readonly error?: undefined }
  | { readonly error: Error; readonly errno?: string };

export interface IoTrial {
  readonly auto: TrialResult;
  readonly ioUring: TrialResult;
}

/** The module, which is loaded late: without its native part it cannot be. */
export type FlashReaderModule = typeof FlashReaderExports;

/** Every block is its own hash over and over: nothing can compress it, and any block is known when seen. */
function trialBytes(): Buffer {
  return Buffer.concat(
    Array.from({ length: BLOCKS }, (_, block) => {
      const digest = createHash("sha512").update(`nchunk doctor ${block}`).digest();
      return Buffer.concat(Array.from({ length: BLOCK_BYTES / digest.length }, () => digest));
    }),
  );
}

async function tryReading(
  { FlashReader }: FlashReaderModule,
  file: string,
  expected: Buffer,
  backend: "auto" | "io_uring",
): Promise<TrialResult> {
  try {
    const reader = await FlashReader.open(file, { directIo: "optional", backend });
    try {
      const count = Math.floor(expected.length / (ROW_BYTES * ROW_STEP));
      const offsetsBytes = Float64Array.from({ length: count }, (_, i) => i * ROW_BYTES * ROW_STEP);
      const lengthsBytes = new Float64Array(count).fill(ROW_BYTES);
      const result = await reader.read({ offsetsBytes, lengthsBytes, count });
      for (let i = 0; i < count; i++) {
        const wanted = expected.subarray(offsetsBytes[i], offsetsBytes[i] + ROW_BYTES);
        if (!wanted.equals(result.view(i))) {
          throw new Error(`Reading back ${file} gave other bytes than were written.`);
        }
      }
      return { backend: reader.backend, alignmentBytes: reader.alignmentBytes };
    } finally {
      await reader.close();
    }
  } catch (cause) {
    const error = cause instanceof Error ? cause : new Error(String(cause));
    const errno = (error as { errno?: unknown }).errno;
    return typeof errno === "string" ? { error, errno } : { error };
  }
}

/**
 * Writes a small file into `folder`, reads it back by every way there is, and removes it again.
 *
 * @param folder an existing folder
 * @param module flash-reader, loaded already; without it only writing is tried
 * @throws the system's error when the file cannot be written
 */
export async function tryIo(
  folder: string,
  module: FlashReaderModule | undefined,
): Promise<IoTrial | undefined> {
  const name = `.nchunk-doctor-${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
  const file = path.join(folder, name);
  const expected = trialBytes();
  try {
    const handle = await open(file, "wx", 0o600);
    try {
      await handle.writeFile(expected);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (!module) return undefined;
    return {
      ioUring: await tryReading(module, file, expected, "io_uring"),
      auto: await tryReading(module, file, expected, "auto"),
    };
  } finally {
    await rm(file, { force: true });
  }
}
