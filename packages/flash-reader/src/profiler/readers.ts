import { READER_BACKENDS } from "@neuron-chunking/latency-model";
import type { ReaderBackendName, ReaderTuning } from "@neuron-chunking/latency-model";
import { FlashReaderError } from "../errors.js";
import { FlashReader } from "../reader.js";
import type { BackendRequest } from "./device-key.js";

/** Opens the probe file in many ways, and closes all of them. */
export class Readers {
  readonly #open = new Set<FlashReader>();

  constructor(
    readonly path: string,
    readonly request: BackendRequest,
  ) {}

  /** As `FlashReader.open`; `backend` as requested unless named. */
  async open(tuning: Partial<ReaderTuning>, backend = this.request.backend): Promise<FlashReader> {
    const { directIo } = this.request;
    const reader = await FlashReader.open(this.path, {
      tuning,
      ...(backend !== undefined && { backend }),
      ...(directIo !== undefined && { directIo }),
    });
    this.#open.add(reader);
    return reader;
  }

  /**
   * As `open`, but undefined where the system lacks resources for just this tuning: some kernels count
   * rings as locked memory, and threads can be limited.
   */
  async tryOpen(
    tuning: Partial<ReaderTuning>,
    backend: ReaderBackendName,
  ): Promise<FlashReader | undefined> {
    try {
      return await this.open(tuning, backend);
    } catch (error) {
      const code = error instanceof FlashReaderError ? error.code : undefined;
      if (code === "BACKEND_UNSUPPORTED" || code === "NO_RESOURCES") return undefined;
      throw error;
    }
  }

  /** What this machine and the request allow to be compared: the backend in use first. */
  async backends(): Promise<ReaderBackendName[]> {
    const reader = await this.open({});
    const { name } = reader.backend;
    await this.close(reader);
    // With less than io_uring a reader has fallen down the ladder already.
    const isChoice = (this.request.backend ?? "auto") === "auto" && name === "io_uring";
    return isChoice ? [...READER_BACKENDS] : [name];
  }

  async close(...readers: readonly FlashReader[]): Promise<void> {
    for (const reader of readers) this.#open.delete(reader);
    await Promise.all(readers.map((reader) => reader.close()));
  }

  async closeAll(): Promise<void> {
    await this.close(...this.#open);
  }
}
