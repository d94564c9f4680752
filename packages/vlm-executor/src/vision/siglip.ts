import type { ComputeBackend, Tensor, Vector, Weight } from "../backend/compute-backend.js";
import { patchesPerSide, patchesPerTile } from "../config.js";
import type { VisionConfig } from "../config.js";
import { throwIfAborted } from "../errors.js";

/** A resident affine map. */
export interface Affine {
  readonly weight: Weight;
  readonly bias: Vector | null;
}

export interface Norm {
  readonly weight: Vector;
  readonly bias: Vector;
}

export interface VisionLayer {
  readonly norm1: Norm;
  readonly query: Affine;
  readonly key: Affine;
  readonly value: Affine;
  readonly output: Affine;
  readonly norm2: Norm;
  readonly expand: Affine;
  readonly contract: Affine;
}

export interface VisionWeights {
  /** The patch convolution as a matrix [hidden, channels * patch * patch]. */
  readonly patch: Affine;
  /** Learned positions [patches, hidden]. */
  readonly positions: Tensor;
  readonly layers: readonly VisionLayer[];
}

/** Activations for one tile at a time, made once. */
interface VisionState {
  readonly pixels: Tensor;
  readonly h: Tensor;
  readonly x: Tensor;
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly attention: Tensor;
  readonly inner: Tensor;
}

/** f32 values of {@link SiglipTower}'s buffers: patches on both sides, positions, activations. */
export function visionStateElements(config: VisionConfig): number {
  const { channels, patchSize, hiddenSize, intermediateSize } = config;
  return (
    patchesPerTile(config) * (2 * channels * patchSize ** 2 + 7 * hiddenSize + intermediateSize)
  );
}

/**
 * SigLIP's vision transformer without its pooling head: patches through pre-norm layers
 *
 *     h = patches Wp + b + positions
 *     x = LayerNorm(h);  h += Attention(x Wq, x Wk, x Wv) Wo
 *     x = LayerNorm(h);  h += GELU(x W1) W2
 *
 * with a bias on every map and attention to all patches. Its final LayerNorm is not applied: features are
 * hidden states, as the reference takes them.
 */
export class SiglipTower {
  private readonly state: VisionState;
  private readonly patches: Float32Array;

  constructor(
    private readonly backend: ComputeBackend,
    readonly config: VisionConfig,
    private readonly weights: VisionWeights,
  ) {
    const n = patchesPerTile(config);
    const { channels, patchSize, hiddenSize, intermediateSize } = config;
    const tensor = (columns: number) => backend.createTensor(n, columns);
    this.state = {
      pixels: tensor(channels * patchSize ** 2),
      h: tensor(hiddenSize),
      x: tensor(hiddenSize),
      query: tensor(hiddenSize),
      key: tensor(hiddenSize),
      value: tensor(hiddenSize),
      attention: tensor(hiddenSize),
      inner: tensor(intermediateSize),
    };
    this.patches = new Float32Array(n * channels * patchSize ** 2);
  }

  /**
   * Hidden states of one tile side by side, in the order of `featureLayers`.
   *
   * @param pixels [channels, imageSize, imageSize], normalised
   * @param featureLayers indices of hidden states, 0 for the embeddings
   * @param features [patches, featureLayers.length * hidden], written
   */
  async encode(
    pixels: Float32Array,
    featureLayers: readonly number[],
    features: Tensor,
    signal?: AbortSignal,
  ): Promise<void> {
    const { backend, weights, state } = this;
    this.cutPatches(pixels);
    backend.write(this.patches, state.pixels, 0);
    await backend.linear(state.pixels, weights.patch.weight, weights.patch.bias, state.h);
    backend.add(state.h, weights.positions);
    this.keep(0, featureLayers, features);
    const depth = Math.max(...featureLayers);
    for (const [index, layer] of weights.layers.slice(0, depth).entries()) {
      throwIfAborted(signal);
      await this.attend(layer);
      await this.feedForward(layer);
      this.keep(index + 1, featureLayers, features);
    }
  }

  private async attend(layer: VisionLayer): Promise<void> {
    const { backend, config, state } = this;
    const { h, x, query, key, value, attention } = state;
    const headDim = config.hiddenSize / config.headCount;
    backend.layerNorm(h, layer.norm1.weight, layer.norm1.bias, config.layerNormEpsilon, x);
    await backend.linear(x, layer.query.weight, layer.query.bias, query);
    await backend.linear(x, layer.key.weight, layer.key.bias, key);
    await backend.linear(x, layer.value.weight, layer.value.bias, value);
    await backend.attention({
      query,
      queryColumn: 0,
      headCount: config.headCount,
      kvHeadCount: config.headCount,
      headDim,
      keys: key,
      values: value,
      kvLength: key.rows,
      pastLength: 0,
      causal: false,
      scale: 1 / Math.sqrt(headDim),
      out: attention,
    });
    await backend.linear(attention, layer.output.weight, layer.output.bias, x);
    backend.add(h, x);
  }

  private async feedForward(layer: VisionLayer): Promise<void> {
    const { backend, config, state } = this;
    const { h, x, inner } = state;
    const activation = config.activation === "gelu" ? "gelu" : "geluTanh";
    backend.layerNorm(h, layer.norm2.weight, layer.norm2.bias, config.layerNormEpsilon, x);
    await backend.linear(x, layer.expand.weight, layer.expand.bias, inner, activation);
    await backend.linear(inner, layer.contract.weight, layer.contract.bias, x);
    backend.add(h, x);
  }

  private keep(hiddenState: number, featureLayers: readonly number[], features: Tensor): void {
    const { hiddenSize } = this.config;
    featureLayers.forEach((wanted, i) => {
      if (wanted !== hiddenState) return;
      this.backend.copyColumns(this.state.h, 0, hiddenSize, features, 0, i * hiddenSize);
    });
  }

  /** Pixels to one row per patch, in the order of the convolution's weights (channel, row, column). */
  private cutPatches(pixels: Float32Array): void {
    const { channels, imageSize, patchSize } = this.config;
    const side = patchesPerSide(this.config);
    let at = 0;
    for (let patch = 0; patch < side * side; patch++) {
      const top = Math.floor(patch / side) * patchSize;
      const left = (patch % side) * patchSize;
      for (let channel = 0; channel < channels; channel++) {
        for (let row = 0; row < patchSize; row++) {
          const start = (channel * imageSize + top + row) * imageSize + left;
          for (let column = 0; column < patchSize; column++) {
            this.patches[at++] = pixels[start + column]!;
          }
        }
      }
    }
  }
}
