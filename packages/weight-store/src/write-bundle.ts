import { createHash } from "node:crypto";
import { readSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { DTYPE_BYTES, type DType } from "./dtype.js";
import { WeightStoreError } from "./errors.js";
import { BLOCK_BYTES, blockPair, readBlocks, writeFully } from "./files.js";
import type { BundlePlan, PartPlan } from "./image-plan.js";
import type { FinishedItem } from "./journal.js";
import { BundleQuantiser } from "./quantise-bundle.js";
import { transposeInto, type ElementArray, type Panel } from "./transpose.js";

/**
 * Memory for one run of stored rows. With two read blocks and Node.js itself, conversion stays below half of its
 * promise of 512 MiB; a larger panel would only save passes over matrices beyond 160 MiB.
 */
export const PANEL_BYTES = 160 * 1024 * 1024;
/** Up to this many panels, reading the whole source for each costs less than picking its columns out of every row. */
const MOST_FULL_PASSES = 4;
/** Strided reads are short and synchronous; the event loop gets a turn after this many. */
const READS_PER_TURN = 256;

/** Memory and observers of a conversion, shared by all its bundles. */
export class Workspace {
  private panel = new ArrayBuffer(0);
  private blocks = blockPair(0);

  constructor(
    /** Called as bytes are done; throws to stop. */
    readonly onBytes: (bytes: number) => void,
    readonly panelBytes = PANEL_BYTES,
    readonly blockBytes = BLOCK_BYTES,
  ) {}

  /** Reused memory of `lengthBytes`, its content undefined. */
  panelOf(lengthBytes: number): ArrayBuffer {
    if (this.panel.byteLength < lengthBytes) this.panel = new ArrayBuffer(lengthBytes);
    return this.panel;
  }

  blocksOf(lengthBytes: number): [Uint8Array, Uint8Array] {
    if (this.blocks[0].length < lengthBytes) this.blocks = blockPair(lengthBytes);
    return this.blocks;
  }
}

/**
 * Writes one bundle in its final order: panel by panel, each gathered from the sources and transposed in memory.
 * @param source The open file a part's weights are in.
 * Rows that are to be quantised are so when all their weights are there.
 * @returns SHA-256 of the bundle's bytes, and the error of quantised ones.
 * @throws WeightStoreError INVALID_WEIGHT naming the weight that cannot be quantised, TRUNCATED.
 */
export async function writeBundle(
  output: FileHandle,
  offsetBytes: number,
  bundle: BundlePlan,
  source: (path: string) => Promise<FileHandle>,
  workspace: Workspace,
): Promise<FinishedItem> {
  const hash = createHash("sha256");
  const quantiser =
    bundle.quantised === undefined ? undefined : new BundleQuantiser(bundle, bundle.quantised);
  const sourceRowBytes = bundle.columns * DTYPE_BYTES[bundle.dtype];
  const rowsPerPanel = Math.max(1, Math.floor(workspace.panelBytes / sourceRowBytes));
  for (let firstRow = 0; firstRow < bundle.rows; firstRow += rowsPerPanel) {
    const rows = Math.min(rowsPerPanel, bundle.rows - firstRow);
    const panelBytes = rows * sourceRowBytes;
    const memory = workspace.panelOf(panelBytes);
    const panel: Panel = {
      elements: elementsOf(bundle.dtype, memory, 0, panelBytes),
      stride: bundle.columns,
      firstRow,
      rows,
    };
    for (const part of bundle.parts) {
      await fillPanel(panel, bundle, part, await source(part.source.path), workspace);
    }
    const blocks =
      quantiser === undefined
        ? blocksOf(new Uint8Array(memory, 0, panelBytes), workspace.blockBytes)
        : quantiser.blocks(panel, workspace);
    await writePanel(output, blocks, offsetBytes + firstRow * bundle.rowBytes, hash, workspace);
  }
  const sha256 = hash.digest("hex");
  return quantiser === undefined ? { sha256 } : { sha256, error: quantiser.error() };
}

function* blocksOf(bytes: Uint8Array, blockBytes: number): Generator<Uint8Array> {
  for (let done = 0; done < bytes.length; done += blockBytes) {
    yield bytes.subarray(done, done + blockBytes);
  }
}

/** Hashes each block while the thread pool writes it. */
async function writePanel(
  output: FileHandle,
  blocks: Iterable<Uint8Array>,
  offsetBytes: number,
  hash: ReturnType<typeof createHash>,
  workspace: Workspace,
): Promise<void> {
  let done = 0;
  for (const block of blocks) {
    const written = writeFully(output, block, offsetBytes + done);
    done += block.length;
    hash.update(block);
    await written;
    workspace.onBytes(block.length);
  }
}

function elementsOf(
  dtype: DType,
  memory: ArrayBufferLike,
  offsetBytes: number,
  lengthBytes: number,
): ElementArray {
  const count = lengthBytes / DTYPE_BYTES[dtype];
  return DTYPE_BYTES[dtype] === 4
    ? new Uint32Array(memory, offsetBytes, count)
    : new Uint16Array(memory, offsetBytes, count);
}

async function fillPanel(
  panel: Panel,
  bundle: BundlePlan,
  part: PartPlan,
  file: FileHandle,
  workspace: Workspace,
): Promise<void> {
  const panels = bundle.rows / panel.rows;
  // A reordered panel needs channels from everywhere, so only the original order can be read in slices.
  if (panels > MOST_FULL_PASSES && bundle.rowOrder === undefined) {
    await fillFromSlices(panel, bundle, part, file, workspace);
  } else {
    await fillFromWholeRows(panel, bundle, part, file, workspace);
  }
}

/** Reads the source front to back and keeps the panel's channels of every output. */
async function fillFromWholeRows(
  panel: Panel,
  bundle: BundlePlan,
  part: PartPlan,
  file: FileHandle,
  workspace: Workspace,
): Promise<void> {
  const { dtype, rows: inputs } = bundle;
  const { path, offsetBytes, lengthBytes } = part.source;
  const outputBytes = inputs * DTYPE_BYTES[dtype];
  const blockBytes = Math.max(1, Math.floor(workspace.blockBytes / outputBytes)) * outputBytes;
  const buffers = workspace.blocksOf(Math.min(blockBytes, lengthBytes));
  const range = { offsetBytes, lengthBytes, blockBytes };
  await readBlocks(file, path, range, buffers, (bytes, doneBytes) => {
    const source = {
      elements: elementsOf(dtype, bytes.buffer, bytes.byteOffset, bytes.length),
      stride: inputs,
      firstOutput: doneBytes / outputBytes,
      outputs: bytes.length / outputBytes,
      firstInput: 0,
    };
    transposeInto(panel, source, part.columnOffset, bundle.rowOrder, part.columnOrder);
    workspace.onBytes(0);
  });
}

/** Reads only the panel's channels out of every output: one short read each, for matrices of many panels. */
async function fillFromSlices(
  panel: Panel,
  bundle: BundlePlan,
  part: PartPlan,
  file: FileHandle,
  workspace: Workspace,
): Promise<void> {
  const elementBytes = DTYPE_BYTES[bundle.dtype];
  const outputBytes = bundle.rows * elementBytes;
  const sliceBytes = panel.rows * elementBytes;
  const outputsPerBlock = Math.max(1, Math.floor(workspace.blockBytes / sliceBytes));
  const [block] = workspace.blocksOf(Math.min(outputsPerBlock, part.columns) * sliceBytes);
  for (let output = 0; output < part.columns; output += outputsPerBlock) {
    const outputs = Math.min(outputsPerBlock, part.columns - output);
    for (let index = 0; index < outputs; index++) {
      const offset =
        part.source.offsetBytes + (output + index) * outputBytes + panel.firstRow * elementBytes;
      readSlice(file, part.source.path, block, index * sliceBytes, sliceBytes, offset);
      if (index % READS_PER_TURN === READS_PER_TURN - 1) await setImmediate();
    }
    const source = {
      elements: elementsOf(bundle.dtype, block.buffer, block.byteOffset, outputs * sliceBytes),
      stride: panel.rows,
      firstOutput: output,
      outputs,
      firstInput: panel.firstRow,
    };
    transposeInto(panel, source, part.columnOffset, undefined, part.columnOrder);
    workspace.onBytes(0);
  }
}

function readSlice(
  file: FileHandle,
  path: string,
  into: Uint8Array,
  at: number,
  lengthBytes: number,
  offsetBytes: number,
): void {
  for (let done = 0; done < lengthBytes;) {
    const read = readSync(file.fd, into, at + done, lengthBytes - done, offsetBytes + done);
    if (read === 0) {
      throw new WeightStoreError("TRUNCATED", `${path} was cut while it was read.`, {
        path,
        offsetBytes,
        lengthBytes,
        got: done,
      });
    }
    done += read;
  }
}
