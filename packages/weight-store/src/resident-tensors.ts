import { closeSync, openSync, readSync } from "node:fs";
import { FlashReader, type FlashReaderOptions } from "@neuron-chunking/flash-reader";
import type { DType } from "./dtype.js";
import { asFileError, WeightStoreError } from "./errors.js";
import { BLOCK_BYTES } from "./files.js";
import type { ManifestTensor } from "./manifest.js";

/** A tensor in memory; `bytes` is little-endian, row-major, and belongs to the image. */
export interface TensorView {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Neighbouring small tensors are read and kept together up to this size; a larger tensor has memory of its own. */
const GROUP_BYTES = 16 * 1024 * 1024;

/** The tensors of resident.safetensors, read whole or one by one. */
export class ResidentTensors {
  private readonly entries: ReadonlyMap<string, ManifestTensor>;
  private readonly loaded = new Map<string, TensorView>();
  private closed = false;

  constructor(
    private readonly path: string,
    tensors: readonly ManifestTensor[],
  ) {
    this.entries = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  }

  has(name: string): boolean {
    return this.entries.has(name);
  }

  names(): string[] {
    return [...this.entries.keys()];
  }

  /**
   * Reads every tensor, straight into the memory that it stays in: past the page cache where `directIo` allows, which
   * would otherwise hold all of it a second time.
   *
   * @throws FlashReaderError when the file cannot be opened or read as asked
   */
  async load(
    options: FlashReaderOptions,
    onProgress: (bytesDone: number, bytesTotal: number) => void = () => undefined,
    signal?: AbortSignal,
  ): Promise<void> {
    const tensors = [...this.entries.values()];
    const bytesTotal = tensors.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    let bytesDone = 0;
    const reader = await FlashReader.open(this.path, options);
    try {
      for (const group of groups(tensors)) {
        signal?.throwIfAborted();
        const first = group[0].offsetBytes;
        const last = group[group.length - 1];
        const memory = await readSpan(
          reader,
          first,
          last.offsetBytes + last.lengthBytes - first,
          signal,
        );
        for (const tensor of group) this.keep(tensor, memory, tensor.offsetBytes - first);
        bytesDone += memory.length;
        onProgress(Math.min(bytesDone, bytesTotal), bytesTotal);
      }
    } finally {
      await reader.close();
    }
  }

  get(name: string): TensorView {
    if (this.closed) {
      throw new WeightStoreError("CLOSED", `${this.path} was closed; open the flash image again.`, {
        path: this.path,
        name,
      });
    }
    const view = this.loaded.get(name);
    if (view !== undefined) return view;
    const entry = this.entries.get(name);
    if (entry === undefined) {
      throw new WeightStoreError(
        "MISSING_TENSOR",
        `${this.path} has no tensor ${name}. Its manifest lists those it has.`,
        { path: this.path, name },
      );
    }
    return this.keep(entry, this.readNow(entry), 0);
  }

  close(): void {
    this.closed = true;
    this.loaded.clear();
  }

  private keep(entry: ManifestTensor, memory: Uint8Array, atBytes: number): TensorView {
    const { name, dtype, shape, lengthBytes } = entry;
    const view = { dtype, shape, bytes: memory.subarray(atBytes, atBytes + lengthBytes) };
    this.loaded.set(name, view);
    return view;
  }

  private readNow({ offsetBytes, lengthBytes }: ManifestTensor): Uint8Array {
    const memory = new Uint8Array(lengthBytes);
    try {
      const fd = openSync(this.path, "r");
      try {
        for (let done = 0; done < lengthBytes;) {
          const most = Math.min(BLOCK_BYTES, lengthBytes - done);
          const read = readSync(fd, memory, done, most, offsetBytes + done);
          if (read === 0) {
            throw new WeightStoreError("TRUNCATED", `${this.path} was cut while in use.`, {
              path: this.path,
              offsetBytes,
              lengthBytes,
              got: done,
            });
          }
          done += read;
        }
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      throw asFileError(error, "read a resident tensor", this.path);
    }
    return memory;
  }
}

/** One span of the file, in memory of its own. */
async function readSpan(
  reader: FlashReader,
  offsetBytes: number,
  lengthBytes: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  if (lengthBytes === 0) return new Uint8Array(0);
  const ranges = {
    offsetsBytes: Float64Array.of(offsetBytes),
    lengthsBytes: Float64Array.of(lengthBytes),
    count: 1,
  };
  const { bytes, viewOffsetsBytes } = await reader.read(ranges, signal ? { signal } : {});
  return bytes.subarray(viewOffsetsBytes[0], viewOffsetsBytes[0] + lengthBytes);
}

/** Runs of tensors in file order whose span fits a group. */
function* groups(tensors: readonly ManifestTensor[]): Generator<ManifestTensor[]> {
  const sorted = [...tensors].sort((a, b) => a.offsetBytes - b.offsetBytes);
  let group: ManifestTensor[] = [];
  for (const tensor of sorted) {
    const end = tensor.offsetBytes + tensor.lengthBytes;
    if (group.length > 0 && end - group[0].offsetBytes > GROUP_BYTES) {
      yield group;
      group = [];
    }
    group.push(tensor);
  }
  if (group.length > 0) yield group;
}
