import type { NativeFailure, NativeReader } from "./binding.js";
import { FlashReaderError, fromNative } from "./errors.js";
import type { LandingBuffer } from "./landing-buffer.js";

/** A read or a stream under way. */
export interface PendingRead {
  readonly landings: readonly LandingBuffer[];
  /** Of a stream, `elapsedNs` is the time in which it read. */
  resolve(elapsedNs: number, bytesRead: number): void;
  reject(reason: unknown): void;
  /** A stream that nobody is told of until it is taken. */
  ended?(): unknown;
  /** Takes the abort listener off again. */
  detach?: () => void;
  aborted?: { readonly reason: unknown };
}

/**
 * The reads and streams under way of one reader. It does not reference the reader: the native side holds on to
 * `settle` for good, and an unused reader must be collectable.
 */
export class PendingReads {
  readonly #path: string;
  readonly #reads = new Map<number, PendingRead>();
  /** Of a stream that is taken: as the arguments of `settle`. */
  readonly #outcome = new Float64Array(3);
  #onIdle: (() => void)[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  add(id: number, read: PendingRead, native: NativeReader, signal: AbortSignal | undefined): void {
    for (const landing of read.landings) landing.busy = true;
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

  /** Settles a stream now if it has ended, else when it does. */
  take(id: number, native: NativeReader): void {
    const failure = native.take(id, this.#outcome);
    if (failure === undefined) return;
    const [readNs, bytesRead, cancelled] = this.#outcome;
    this.settle(id, readNs, bytesRead, cancelled !== 0, failure);
  }

  /** Resolves when no read is under way. */
  idle(native: NativeReader): Promise<void> {
    for (const [id, read] of this.#reads) {
      if (read.ended !== undefined) this.take(id, native);
    }
    if (this.#reads.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onIdle.push(resolve));
  }

  /** The native side's callback: ends one read or stream, after its last transfer. */
  readonly settle = (
    id: number,
    elapsedNs: number,
    bytesRead: number,
    cancelled: boolean,
    failure: NativeFailure | null,
  ): void => {
    const read = this.#reads.get(id);
    if (read === undefined) return;
    this.#reads.delete(id);
    read.detach?.();
    for (const landing of read.landings) landing.busy = false;
    const reason = this.#rejection(read, cancelled, failure);
    if (reason === undefined) read.resolve(elapsedNs, bytesRead);
    else read.reject(reason.reason);
    if (this.#reads.size === 0) {
      for (const resolve of this.#onIdle.splice(0)) resolve();
    }
  };

  /** Boxed, because a signal's reason may be anything. */
  #rejection(
    read: PendingRead,
    cancelled: boolean,
    failure: NativeFailure | null,
  ): { readonly reason: unknown } | undefined {
    if (read.aborted !== undefined) return read.aborted;
    if (failure !== null) return { reason: fromNative(this.#path, failure) };
    if (read.landings.some((landing) => landing.detached)) {
      return {
        reason: new FlashReaderError(
          "LANDING_DETACHED",
          "The memory of this landing buffer was transferred away during the read.",
          { path: this.#path },
        ),
      };
    }
    if (!cancelled) return undefined;
    return {
      reason: new FlashReaderError(
        "SINK_CLOSED",
        "The consumer of this stream closed it before it had released enough for every slice to be read.",
        { path: this.#path },
      ),
    };
  }
}
