import type { ComputeBackend, Tensor, Vector, Weight } from "./backend/compute-backend.js";
import type { Pass } from "./chunked-linear.js";
import type { DecoderConfig } from "./config.js";
import type { KvCache } from "./kv-cache.js";
import { ScratchTensors } from "./projection.js";
import type { Projection } from "./projection.js";

/** Weights of one layer; the projections' matrices stay on flash. */
export interface DecoderLayer {
  readonly inputNorm: Vector;
  /** `q | k | v`, biases included */
  readonly qkv: Projection;
  readonly output: Projection;
  readonly postAttentionNorm: Vector;
  /** `gate | up` */
  readonly gateUp: Projection;
  readonly down: Projection;
}

export interface DecoderWeights {
  readonly embedding: Weight;
  readonly layers: readonly DecoderLayer[];
  readonly finalNorm: Vector;
  readonly head: Weight;
  readonly inverseFrequencies: Vector;
}

/** Activations of one pass, made once for blocks of up to `blockTokens`. */
export class RunState {
  /** Residual stream [T, hidden]. */
  readonly h: Tensor;
  /** Normed input of a projection [T, hidden]. */
  readonly x: Tensor;
  readonly qkv: Tensor;
  readonly attention: Tensor;
  readonly gateUp: Tensor;
  readonly inner: Tensor;
  /** The rows whose logits are wanted, one at a time [1, hidden] and [1, vocabulary]. */
  readonly last: Tensor;
  readonly logits: Tensor;
  readonly scratch: ScratchTensors;

  constructor(
    backend: ComputeBackend,
    config: DecoderConfig,
    readonly blockTokens: number,
  ) {
    const { hiddenSize, intermediateSize, headCount, kvHeadCount, headDim } = config;
    const block = (columns: number) => backend.createTensor(blockTokens, columns);
    this.h = block(hiddenSize);
    this.x = block(hiddenSize);
    this.qkv = block((headCount + 2 * kvHeadCount) * headDim);
    this.attention = block(headCount * headDim);
    this.gateUp = block(2 * intermediateSize);
    this.inner = block(intermediateSize);
    this.last = backend.createTensor(1, hiddenSize);
    this.logits = backend.createTensor(1, config.vocabSize);
    this.scratch = new ScratchTensors(backend, blockTokens);
  }

  /** Values per token of a block held in f32, scratch of the projections not counted. */
  static columns(config: DecoderConfig): number {
    const { hiddenSize, intermediateSize, headCount, kvHeadCount, headDim } = config;
    return 2 * hiddenSize + 2 * (headCount + kvHeadCount) * headDim + 3 * intermediateSize;
  }

  /** Sets the length of the pass to come. */
  setRows(tokens: number): void {
    for (const t of [this.h, this.x, this.qkv, this.attention, this.gateUp, this.inner]) {
      t.rows = tokens;
    }
  }
}

/** A pre-norm decoder with grouped-query attention, rotary positions and a gated MLP. */
export class Decoder {
  private readonly hostRow: Float32Array;

  constructor(
    private readonly backend: ComputeBackend,
    readonly config: DecoderConfig,
    readonly weights: DecoderWeights,
  ) {
    this.hostRow = new Float32Array(config.hiddenSize);
  }

  /**
   * One block of tokens through all layers: `state.h` [T, hidden] holds their embeddings before and the final
   * residual stream after; keys and values land behind `cache.length` and are not yet committed.
   */
  async forward(state: RunState, cache: KvCache, pass: Pass): Promise<void> {
    for (let layer = 0; layer < this.weights.layers.length; layer++) {
      await this.forwardLayer(layer, state, cache, pass);
    }
  }

  /** One layer: `state.h` holds its input before and its output after; it can be run again on another input. */
  async forwardLayer(index: number, state: RunState, cache: KvCache, pass: Pass): Promise<void> {
    const layer = this.weights.layers[index];
    await this.attend(layer, index, state, cache, pass);
    await this.feedForward(layer, state, pass);
  }

  /** `x = RMSNorm(h);  q, k, v = x Wqkv + b;  h += Attention(RoPE(q), RoPE(k), v) Wo` */
  private async attend(
    layer: DecoderLayer,
    index: number,
    { h, x, qkv, attention, scratch }: RunState,
    cache: KvCache,
    pass: Pass,
  ): Promise<void> {
    const { headCount, kvHeadCount, headDim, rmsNormEpsilon } = this.config;
    const past = cache.length;
    const keyColumn = headCount * headDim;
    const valueColumn = keyColumn + kvHeadCount * headDim;
    const order = layer.qkv.inputOrder;

    this.backend.rmsNorm(h, layer.inputNorm, rmsNormEpsilon, order, x);
    await layer.qkv.forward(x, order, qkv, false, scratch, pass);
    // Queries and keys lie side by side and turn by the same angles.
    const turned = headCount + kvHeadCount;
    this.backend.rope(qkv, 0, turned, headDim, past, this.weights.inverseFrequencies);
    cache.store(index, qkv, keyColumn, valueColumn);
    await this.backend.attention({
      query: qkv,
      queryColumn: 0,
      headCount,
      kvHeadCount,
      headDim,
      ...cache.layer(index),
      kvLength: past + qkv.rows,
      pastLength: past,
      causal: true,
      scale: 1 / Math.sqrt(headDim),
      out: attention,
    });
    await layer.output.forward(attention, null, h, true, scratch, pass);
  }

  /** `x = RMSNorm(h);  h += (silu(x Wgate) * (x Wup)) Wdown` */
  private async feedForward(
    layer: DecoderLayer,
    { h, x, gateUp, inner, scratch }: RunState,
    pass: Pass,
  ): Promise<void> {
    const order = layer.gateUp.inputOrder;
    this.backend.rmsNorm(h, layer.postAttentionNorm, this.config.rmsNormEpsilon, order, x);
    await layer.gateUp.forward(x, order, gateUp, false, scratch, pass);
    this.backend.siluMul(gateUp, inner);
    // Where down's rows are reordered, gate's and up's columns already are (weight-store).
    await layer.down.forward(inner, layer.down.inputOrder, h, true, scratch, pass);
  }

  /** `logits = RMSNorm(h[row]) Whead^T` into `into` [vocabulary]. */
  async logits(state: RunState, row: number, into: Float32Array): Promise<void> {
    const { last, logits, h } = state;
    await this.backend.read(h, row, this.hostRow);
    this.backend.write(this.hostRow, last, 0);
    this.backend.rmsNorm(last, this.weights.finalNorm, this.config.rmsNormEpsilon, null, last);
    await this.backend.linear(last, this.weights.head, null, logits);
    await this.backend.read(logits, 0, into);
  }
}
