import type { NativeFailure, NativeReader } from "./binding.js";
import { FlashReaderError, fromNative } from "./errors.js";
import type { LandingBuffer } from "./landing-buffer.js";
import type { ReadResult } from "./read-result.js";

export interface PendingRead {
  readonly result: ReadResult;
  readonly landing: LandingBuffer;
  readonly resolve: (result: ReadResult) => void;
  readonly reject: (reason: unknown) => void;
  /** Takes the abort listener off again. */
  detach?: () => void;
  aborted?: { readonly reason: unknown };
}

/**
 * The reads under way of one reader. It does not reference the reader: the native side holds on to
 * `settle` for good, and an unused reader must be collectable.
 */
export class PendingReads {
  readonly #path: string;
  readonly #reads = new Map<number, PendingRead>();
  #onIdle: (() => void)[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  add(id: number, read: PendingRead, native: NativeReader, signal: AbortSignal | undefined): void {
    read.landing.busy = true;
    this.#reads.set(id, read);
    if (signal === undefined) return;
    const onAbort = (): void => {
      read.aborted = { reason: signal.reason };
      native.cancel(id);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    read.detach = () => {
      signal.removeEventListener("abort", onAbort);
    };
  }

  /** Resolves when no read is under way. */
  idle(): Promise<void> {
    if (this.#reads.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onIdle.push(resolve));
  }

  /** The native side's callback: ends one read, after its last transfer. */
  readonly settle = (
    id: number,
    elapsedNs: number,
    bytesRead: number,
    _cancelled: boolean,
    failure: NativeFailure | null,
  ): void => {
    const read = this.#reads.get(id);
    if (read === undefined) return;
    this.#reads.delete(id);
    read.detach?.();
    read.landing.busy = false;
    read.result.elapsedNs = elapsedNs;
    read.result.bytesRead = bytesRead;
    this.#finish(read, failure);
    if (this.#reads.size === 0) {
      for (const resolve of this.#onIdle.splice(0)) resolve();
    }
  };

  #finish(read: PendingRead, failure: NativeFailure | null): void {
    if (read.aborted !== undefined) {
      read.reject(read.aborted.reason);
    } else if (failure !== null) {
      read.reject(fromNative(this.#path, failure));
    } else if (read.landing.detached) {
      read.reject(
        new FlashReaderError(
          "LANDING_DETACHED",
          "The memory of this landing buffer was transferred away during the read.",
          { path: this.#path },
        ),
      );
    } else {
      read.resolve(read.result);
    }
  }
}
