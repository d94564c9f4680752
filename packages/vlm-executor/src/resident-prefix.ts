import type { LandingBuffer } from "@neuron-chunking/flash-reader";
import type { BundleInfo, FlashImage } from "@neuron-chunking/weight-store";
import type {
  Completion,
  ComputeBackend,
  LandedChunks,
  ResidentRows,
  Tensor,
} from "./backend/compute-backend.js";
import { throwIfAborted } from "./errors.js";
import type { BundlePrefix } from "./prefix-plan.js";
import { rowFormat } from "./weight-dtype.js";

/** The first rows of one stored matrix, in memory: multiplied in every pass, never read again (DESIGN.md, hot rows). */
export class ResidentPrefix implements ResidentRows {
  readonly rows: number;
  private readonly chunks: LandedChunks;

  /** @param bytes its first `rows` rows, as on flash; kept */
  constructor(
    info: BundleInfo,
    rows: number,
    readonly bytes: Uint8Array,
  ) {
    this.rows = rows;
    this.chunks = {
      starts: Uint32Array.of(0),
      lengths: Uint32Array.of(rows),
      chunkCount: 1,
      bytes,
      offsetsBytes: Float64Array.of(0),
      ...rowFormat(info),
    };
  }

  /** `y (+)= x[:, :rows] W[:rows, :]` */
  multiply(backend: ComputeBackend, x: Tensor, y: Tensor, accumulate: boolean): Completion {
    return backend.chunkedMatmul(x, this.chunks, y, accumulate);
  }
}

/**
 * Reads prefixes by way of `landing`, so that nothing but them stays in memory. One after the other: the reads are long.
 *
 * @returns by name of the stored matrix
 * @throws FlashReaderError; VlmExecutorError `ABORTED`
 */
export async function loadPrefixes(
  image: FlashImage,
  prefixes: readonly BundlePrefix[],
  landing: LandingBuffer,
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, ResidentPrefix>> {
  const loaded = new Map<string, ResidentPrefix>();
  for (const { bundle, rows } of prefixes) {
    throwIfAborted(signal);
    const info = image.bundle(bundle);
    loaded.set(bundle, new ResidentPrefix(info, rows, await readRows(image, info, rows, landing)));
  }
  return loaded;
}

async function readRows(
  image: FlashImage,
  { offsetBytes, rowBytes }: BundleInfo,
  rows: number,
  into: LandingBuffer,
): Promise<Uint8Array> {
  const memory = new Uint8Array(rows * rowBytes);
  const overhead = 2 * image.reader.alignmentBytes;
  const most = Math.max(1, Math.floor((into.capacityBytes - overhead) / rowBytes));
  const layout = { baseOffsetBytes: offsetBytes, rowBytes };
  for (let row = 0; row < rows; row += most) {
    const plan = {
      starts: Uint32Array.of(row),
      lengths: Uint32Array.of(Math.min(most, rows - row)),
      chunkCount: 1,
    };
    const { bytes, viewOffsetsBytes } = await image.reader.readPlan(plan, layout, { into });
    const start = viewOffsetsBytes[0];
    memory.set(bytes.subarray(start, start + plan.lengths[0] * rowBytes), row * rowBytes);
  }
  return memory;
}
