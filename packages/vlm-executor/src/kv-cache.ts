import type { ComputeBackend, Tensor } from "./backend/compute-backend.js";
import type { DecoderConfig } from "./config.js";
import { VlmExecutorError } from "./errors.js";

/** Bytes of a cache of `capacityTokens` positions: keys and values of every layer in f32. */
export function kvCacheBytes(config: DecoderConfig, capacityTokens: number): number {
  const { layerCount, kvHeadCount, headDim } = config;
  return 2 * layerCount * capacityTokens * kvHeadCount * headDim * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * Keys and values of every position so far, [capacity, kvHeadCount * headDim] per layer. Positions at and
 * beyond `length` are scratch: a pass writes them and `commit` makes them count, so that an
 * interrupted pass leaves no trace.
 */
export class KvCache {
  private committed = 0;
  private readonly keys: Tensor[] = [];
  private readonly values: Tensor[] = [];

  constructor(
    private readonly backend: ComputeBackend,
    config: DecoderConfig,
    readonly capacityTokens: number,
  ) {
    const columns = config.kvHeadCount * config.headDim;
    for (let layer = 0; layer < config.layerCount; layer++) {
      this.keys.push(backend.createTensor(capacityTokens, columns));
      this.values.push(backend.createTensor(capacityTokens, columns));
    }
  }

  /** Positions that count. */
  get length(): number {
    return this.committed;
  }

  /** @throws VlmExecutorError `CONTEXT_FULL` when `tokens` more do not fit, saying how many would have to */
  requireRoom(tokens: number): void {
    const needed = this.committed + tokens;
    if (needed <= this.capacityTokens) return;
    throw new VlmExecutorError(
      "CONTEXT_FULL",
      `The context is full: ${tokens} more tokens need ${needed} positions and there are ${this.capacityTokens} (${this.committed} in use). Open the model with contextLength >= ${needed}, or start a new session.`,
      { expected: needed, got: this.capacityTokens },
    );
  }

  /** Writes keys and values of the current pass, from columns of `qkv`, behind the committed positions. */
  store(layer: number, qkv: Tensor, keyColumn: number, valueColumn: number): void {
    const keys = this.keys[layer];
    const values = this.values[layer];
    this.backend.copyColumns(qkv, keyColumn, keys.columns, keys, this.committed, 0);
    this.backend.copyColumns(qkv, valueColumn, values.columns, values, this.committed, 0);
  }

  layer(layer: number): { readonly keys: Tensor; readonly values: Tensor } {
    return { keys: this.keys[layer], values: this.values[layer] };
  }

  /** The pass of `tokens` positions is complete. */
  commit(tokens: number): void {
    this.committed += tokens;
  }

  /** Forgets everything from position `length` on. */
  rollBackTo(length: number): void {
    this.committed = Math.min(this.committed, length);
  }
}
