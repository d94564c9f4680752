import type { NativeReader } from "./binding.js";
import type { LandingBuffer } from "./landing-buffer.js";
import type { StreamResult } from "./landing-sink.js";
import type { PendingRead, PendingReads } from "./pending-reads.js";

/**
 * A stream that was started: `ended` must be called at some time, or the reader goes on to hold the landings and to keep the
 * process alive.
 */
export class SliceRun implements PendingRead {
  /** @internal */
  readonly landings: readonly LandingBuffer[];
  /** @internal */
  detach?: () => void;
  /** @internal */
  aborted?: { readonly reason: unknown };
  readonly #pending: PendingReads;
  readonly #native: NativeReader;
  readonly #id: number;
  readonly #bytesWanted: number;
  readonly #requests: number;
  #result: StreamResult | undefined;
  #rejection: { readonly reason: unknown } | undefined;
  #promise: Promise<StreamResult> | undefined;
  #resolve: ((result: StreamResult) => void) | undefined;
  #reject: ((reason: unknown) => void) | undefined;

  /** @internal */
  constructor(
    pending: PendingReads,
    native: NativeReader,
    id: number,
    landings: readonly LandingBuffer[],
    bytesWanted: number,
    requests: number,
  ) {
    this.#pending = pending;
    this.#native = native;
    this.#id = id;
    this.landings = landings;
    this.#bytesWanted = bytesWanted;
    this.#requests = requests;
  }

  /**
   * What the stream read, at once where it has ended, else by a promise: for a consumer that has seen every slice land, no
   * turn of the event loop passes. Throws, or rejects, as `streamSlices`.
   */
  ended(): StreamResult | Promise<StreamResult> {
    if (this.#promise !== undefined) return this.#promise;
    if (!this.#hasEnded()) this.#pending.take(this.#id, this.#native);
    if (this.#rejection !== undefined) throw this.#rejection.reason;
    if (this.#result !== undefined) return this.#result;
    this.#promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    return this.#promise;
  }

  /** @internal */
  resolve(readNs: number, bytesRead: number): void {
    this.#result = {
      bytesWanted: this.#bytesWanted,
      bytesRead,
      requests: this.#requests,
      readNs,
    };
    this.#resolve?.(this.#result);
  }

  /** @internal */
  reject(reason: unknown): void {
    this.#rejection = { reason };
    this.#reject?.(reason);
  }

  #hasEnded(): boolean {
    return this.#result !== undefined || this.#rejection !== undefined;
  }
}
