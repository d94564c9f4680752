import { closeSync, openSync, readSync } from "node:fs";
import { open } from "node:fs/promises";
import type { DType } from "./dtype.js";
import { asFileError, WeightStoreError, withFileErrors } from "./errors.js";
import { BLOCK_BYTES, readFully } from "./files.js";
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

  /** Reads every tensor. */
  async load(
    onProgress: (bytesDone: number, bytesTotal: number) => void = () => undefined,
    signal?: AbortSignal,
  ): Promise<void> {
    const tensors = [...this.entries.values()];
    const bytesTotal = tensors.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    let bytesDone = 0;
    await withFileErrors("read the resident tensors", this.path, async () => {
      const file = await open(this.path, "r");
      try {
        for (const group of groups(tensors)) {
          const first = group[0].offsetBytes;
          const last = group[group.length - 1];
          const memory = new Uint8Array(last.offsetBytes + last.lengthBytes - first);
          for (let done = 0; done < memory.length; done += BLOCK_BYTES) {
            signal?.throwIfAborted();
            const block = memory.subarray(done, done + BLOCK_BYTES);
            await readFully(file, this.path, block, first + done);
            bytesDone += block.length;
            onProgress(Math.min(bytesDone, bytesTotal), bytesTotal);
          }
          for (const tensor of group) this.keep(tensor, memory, tensor.offsetBytes - first);
        }
      } finally {
        await file.close();
      }
    });
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
