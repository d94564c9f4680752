import type { Fields } from "../json-fields.js";

/** Llama-3.1 405B has 126; a limit keeps a hostile config from asking for 10^9 tensor names. */
const MAX_LAYERS = 1024;
/** Widths and vocabularies stay below 2^20 today; one row of a matrix must fit the converter's memory. */
const MAX_SIZE = 1 << 22;
const MAX_HEADS = 4096;

/** The sizes of a decoder that decide the shapes of its tensors. */
export interface DecoderShape {
  layers: number;
  hiddenSize: number;
  intermediateSize: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabSize: number;
  /** Whether q, k and v projections have biases. */
  qkvBias: boolean;
  /** Whether the attention's output projection has a bias. */
  outputBias: boolean;
  /** What config.json asks for; whether the image has an `lm_head.weight` says what holds. */
  tieWordEmbeddings: boolean;
}

/** The sizes of a SigLIP vision tower. */
export interface VisionShape {
  layers: number;
  hiddenSize: number;
  intermediateSize: number;
  channels: number;
  imageSize: number;
  patchSize: number;
}

/** Everything conversion needs to know of a model. */
export interface ModelShape {
  family: string;
  decoder: DecoderShape;
  vision?: VisionShape;
  /** Width of the projector's input, and whether its layers have biases. */
  projector?: { inputSize: number; bias: boolean };
}

/** A tensor the architecture asks for, by canonical name. */
export interface ExpectedTensor {
  name: string;
  shape: readonly number[];
  /** May be absent (an unused final norm, say). */
  optional?: boolean;
}

/** What a family lets a configuration leave out, as its own configuration class does. */
export interface DecoderDefaults {
  kvHeads: (heads: number) => number;
  qkvBias: boolean;
  /** Whether config.json may switch attention biases on. */
  biasOption: boolean;
  sizes?: Partial<
    Record<
      | "vocab_size"
      | "hidden_size"
      | "intermediate_size"
      | "num_hidden_layers"
      | "num_attention_heads",
      number
    >
  >;
}

/**
 * Reads the decoder's sizes.
 * @throws WeightStoreError INVALID_CONFIG naming the field.
 */
export function decoderShape(config: Fields, defaults: DecoderDefaults): DecoderShape {
  const size = (name: keyof NonNullable<DecoderDefaults["sizes"]>, most: number) =>
    config.integer(name, 1, most, defaults.sizes?.[name]);
  const hiddenSize = size("hidden_size", MAX_SIZE);
  const heads = size("num_attention_heads", MAX_HEADS);
  const kvHeads = config.integer("num_key_value_heads", 1, heads, defaults.kvHeads(heads));
  if (heads % kvHeads !== 0) {
    config.fail("num_key_value_heads", `a divisor of num_attention_heads (${heads})`, kvHeads);
  }
  if (!config.has("head_dim") && hiddenSize % heads !== 0) {
    config.fail("hidden_size", `a multiple of num_attention_heads (${heads})`, hiddenSize);
  }
  const attentionBias = defaults.biasOption && config.boolean("attention_bias", false);
  return {
    layers: size("num_hidden_layers", MAX_LAYERS),
    hiddenSize,
    intermediateSize: size("intermediate_size", MAX_SIZE),
    heads,
    kvHeads,
    headDim: config.integer("head_dim", 1, MAX_SIZE, hiddenSize / heads),
    vocabSize: size("vocab_size", MAX_SIZE),
    qkvBias: defaults.qkvBias || attentionBias,
    outputBias: attentionBias,
    tieWordEmbeddings: config.boolean("tie_word_embeddings", false),
  };
}

/** Reads the sizes of a `siglip_vision_model`; absent fields have the values of its configuration class. */
export function siglipShape(config: Fields): VisionShape {
  const shape = {
    layers: config.integer("num_hidden_layers", 1, MAX_LAYERS, 12),
    hiddenSize: config.integer("hidden_size", 1, MAX_SIZE, 768),
    intermediateSize: config.integer("intermediate_size", 1, MAX_SIZE, 3072),
    channels: config.integer("num_channels", 1, 16, 3),
    imageSize: config.integer("image_size", 1, 16_384, 224),
    patchSize: config.integer("patch_size", 1, 16_384, 16),
  };
  if (shape.patchSize > shape.imageSize) {
    config.fail("patch_size", `at most image_size (${shape.imageSize})`, shape.patchSize);
  }
  return shape;
}

/** The decoder's tensors that stay in memory. The head is asked for by the caller, who knows whether it is tied. */
export function decoderResidents(shape: DecoderShape): ExpectedTensor[] {
  const { hiddenSize, headDim, heads, kvHeads } = shape;
  const residents: ExpectedTensor[] = [
    { name: "decoder.embed_tokens.weight", shape: [shape.vocabSize, hiddenSize] },
    { name: "decoder.norm.weight", shape: [hiddenSize] },
  ];
  for (let layer = 0; layer < shape.layers; layer++) {
    const prefix = `decoder.layers.${layer}`;
    const attention = `${prefix}.self_attn`;
    residents.push(
      { name: `${prefix}.input_layernorm.weight`, shape: [hiddenSize] },
      { name: `${prefix}.post_attention_layernorm.weight`, shape: [hiddenSize] },
    );
    if (shape.qkvBias) {
      residents.push(
        { name: `${attention}.q_proj.bias`, shape: [heads * headDim] },
        { name: `${attention}.k_proj.bias`, shape: [kvHeads * headDim] },
        { name: `${attention}.v_proj.bias`, shape: [kvHeads * headDim] },
      );
    }
    if (shape.outputBias) residents.push({ name: `${attention}.o_proj.bias`, shape: [hiddenSize] });
  }
  return residents;
}

/** The vision tower's tensors (SigLIP, without its pooling head, which LLaVA does not use). */
export function siglipResidents(shape: VisionShape): ExpectedTensor[] {
  const { hiddenSize: d, intermediateSize, patchSize, channels } = shape;
  const positions = Math.floor(shape.imageSize / patchSize) ** 2;
  const residents: ExpectedTensor[] = [
    {
      name: "vision.embeddings.patch_embedding.weight",
      shape: [d, channels, patchSize, patchSize],
    },
    { name: "vision.embeddings.patch_embedding.bias", shape: [d] },
    { name: "vision.embeddings.position_embedding.weight", shape: [positions, d] },
    { name: "vision.post_layernorm.weight", shape: [d], optional: true },
    { name: "vision.post_layernorm.bias", shape: [d], optional: true },
  ];
  for (let layer = 0; layer < shape.layers; layer++) {
    const prefix = `vision.encoder.layers.${layer}`;
    const linear = (name: string, outputs: number, inputs: number) =>
      residents.push(
        { name: `${prefix}.${name}.weight`, shape: [outputs, inputs] },
        { name: `${prefix}.${name}.bias`, shape: [outputs] },
      );
    for (const norm of ["layer_norm1", "layer_norm2"]) {
      residents.push(
        { name: `${prefix}.${norm}.weight`, shape: [d] },
        { name: `${prefix}.${norm}.bias`, shape: [d] },
      );
    }
    for (const projection of ["q_proj", "k_proj", "v_proj", "out_proj"]) {
      linear(`self_attn.${projection}`, d, d);
    }
    linear("mlp.fc1", intermediateSize, d);
    linear("mlp.fc2", d, intermediateSize);
  }
  return residents;
}

/** The two linear layers between vision tower and decoder. */
export function projectorResidents(
  hiddenSize: number,
  projector: { inputSize: number; bias: boolean },
): ExpectedTensor[] {
  const residents: ExpectedTensor[] = [
    { name: "projector.linear_1.weight", shape: [hiddenSize, projector.inputSize] },
    { name: "projector.linear_2.weight", shape: [hiddenSize, hiddenSize] },
  ];
  if (projector.bias) {
    residents.push(
      { name: "projector.linear_1.bias", shape: [hiddenSize] },
      { name: "projector.linear_2.bias", shape: [hiddenSize] },
    );
  }
  return residents;
}
