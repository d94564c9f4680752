/**
 * Model configurations as this executor uses them. Which `config.json` fields they come from, and what
 * they are when absent, is each family's business (`families/`), since transformers leaves out of the
 * file whatever equals the default of its class.
 */

/** A pre-norm decoder with grouped-query attention, rotary positions and a gated MLP. */
export interface DecoderConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layerCount: number;
  /** Query heads, `Hq`. */
  readonly headCount: number;
  /** Key/value heads, `Hkv`; each serves `Hq / Hkv` query heads. */
  readonly kvHeadCount: number;
  /** `d`, even. `Hq * d` need not equal `hiddenSize`. */
  readonly headDim: number;
  readonly vocabSize: number;
  readonly rmsNormEpsilon: number;
  /** Rotary inverse frequencies [headDim / 2], scaling included. */
  readonly inverseFrequencies: Float32Array;
  /** Positions the model was made for. */
  readonly maxPositions: number;
  /** The LM head is the embedding table. */
  readonly tiedHead: boolean;
  /** Which projections carry a bias. */
  readonly biases: { readonly qkv: boolean; readonly output: boolean; readonly mlp: boolean };
}

/** SigLIP vision transformer without its pooling head. */
export interface VisionConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layerCount: number;
  readonly headCount: number;
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
  readonly layerNormEpsilon: number;
  readonly activation: "gelu_pytorch_tanh" | "gelu";
}

/** How vision features become decoder inputs. */
export interface MultimodalConfig {
  readonly vision: VisionConfig;
  readonly imageTokenId: number;
  readonly videoTokenId: number;
  /** Indices into the tower's hidden states (0 = its embeddings), concatenated for the projector. */
  readonly featureLayers: readonly number[];
  readonly projectorBias: boolean;
  /** Tile canvases [height, width] in pixels, for pictures of any resolution. */
  readonly gridPinpoints: readonly (readonly [number, number])[];
  /** `N` of `anyres_max_N`: features beyond `N` tiles' worth are reduced by interpolation. */
  readonly maxTiles: number;
}

export interface ModelConfig {
  /** `model_type` of `config.json`. */
  readonly architecture: string;
  readonly decoder: DecoderConfig;
  readonly multimodal?: MultimodalConfig;
  /** Ids that end a generation. */
  readonly stopTokenIds: readonly number[];
}

/** Patches a tower sees per tile. */
export function patchesPerTile(vision: VisionConfig): number {
  return patchesPerSide(vision) ** 2;
}

export function patchesPerSide(vision: VisionConfig): number {
  return Math.floor(vision.imageSize / vision.patchSize);
}
