/** Sizes of a Qwen2 decoder: what a model of random weights needs to take as long as the real one. */
export interface ModelShape {
  /** Name in reports. */
  readonly name: string;
  /** Differs for every shape; names the files. */
  readonly id: string;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly vocabSize: number;
  /** The output head is the embedding table. */
  readonly tiedHead: boolean;
  /** What is not as in the real model; absent: nothing. */
  readonly note?: string;
}

const ONEVISION_500M: ModelShape = {
  name: "LLaVA-OneVision 0.5B",
  id: "onevision-0.5b",
  hiddenSize: 896,
  intermediateSize: 4864,
  layers: 24,
  heads: 14,
  kvHeads: 2,
  vocabSize: 151_936,
  tiedHead: true,
};

const ONEVISION_7B: ModelShape = {
  name: "LLaVA-OneVision 7B",
  id: "onevision-7b",
  hiddenSize: 3584,
  intermediateSize: 18_944,
  layers: 28,
  heads: 28,
  kvHeads: 4,
  vocabSize: 152_064,
  tiedHead: false,
};

/** Fewer layers and a smaller vocabulary: the head is no larger a part of the whole than in the real model. */
function partOf(shape: ModelShape, layers: number, vocabSize: number): ModelShape {
  return {
    ...shape,
    id: `${shape.id}-${layers}-layers-${vocabSize}`,
    layers,
    vocabSize,
    note:
      `${shape.name} with ${layers} of its ${shape.layers} layers and a vocabulary of ${vocabSize} instead of ` +
      `${shape.vocabSize}; each layer has the real shape.`,
  };
}

/** For tests: every path is taken, nothing says anything about speed. */
const TINY: ModelShape = {
  name: "tiny Qwen2",
  id: "tiny",
  hiddenSize: 128,
  intermediateSize: 384,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  vocabSize: 512,
  tiedHead: true,
  note: "A tiny model for tests: its times say nothing.",
};

export const SHAPES = {
  "0.5b": ONEVISION_500M,
  // In both parts as large a share of the bytes is in layers as in the whole model.
  "0.5b-part": partOf(ONEVISION_500M, 8, 50_624),
  "7b": ONEVISION_7B,
  "7b-part": partOf(ONEVISION_7B, 6, 32_576),
  // The least in which a quarter of the model's size still holds Node.js and the resident weights.
  "7b-small-part": partOf(ONEVISION_7B, 3, 4096),
  tiny: TINY,
} as const;

/** One weight tensor, by its names in either file format. */
export interface WeightTensor {
  /** In a Hugging Face checkpoint. */
  readonly checkpointName: string;
  /** In a GGUF file. */
  readonly ggufName: string;
  /** [outputs, inputs] or [length]. */
  readonly shape: readonly number[];
  readonly values: "matrix" | "unevenMatrix" | "norm" | "bias";
}

const elements = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

/**
 * Every tensor of the model, as `Qwen2ForCausalLM` and llama.cpp's `qwen2` name them. What makes the inputs of
 * `o_proj` and `down_proj` has output rows of uneven size, as some channels are larger than others in trained models.
 */
export function modelTensors(shape: ModelShape): WeightTensor[] {
  const { hiddenSize: d, intermediateSize: m, vocabSize } = shape;
  const headDim = d / shape.heads;
  const kv = shape.kvHeads * headDim;
  const tensors: WeightTensor[] = [];
  const add = (
    checkpointName: string,
    ggufName: string,
    values: WeightTensor["values"],
    ...size: number[]
  ): void => void tensors.push({ checkpointName, ggufName, values, shape: size });
  add("model.embed_tokens.weight", "token_embd.weight", "matrix", vocabSize, d);
  for (let layer = 0; layer < shape.layers; layer += 1) {
    const [hf, gguf] = [`model.layers.${layer}`, `blk.${layer}`];
    add(`${hf}.input_layernorm.weight`, `${gguf}.attn_norm.weight`, "norm", d);
    add(`${hf}.self_attn.q_proj.weight`, `${gguf}.attn_q.weight`, "matrix", d, d);
    add(`${hf}.self_attn.q_proj.bias`, `${gguf}.attn_q.bias`, "bias", d);
    add(`${hf}.self_attn.k_proj.weight`, `${gguf}.attn_k.weight`, "matrix", kv, d);
    add(`${hf}.self_attn.k_proj.bias`, `${gguf}.attn_k.bias`, "bias", kv);
    add(`${hf}.self_attn.v_proj.weight`, `${gguf}.attn_v.weight`, "unevenMatrix", kv, d);
    add(`${hf}.self_attn.v_proj.bias`, `${gguf}.attn_v.bias`, "bias", kv);
    add(`${hf}.self_attn.o_proj.weight`, `${gguf}.attn_output.weight`, "matrix", d, d);
    add(`${hf}.post_attention_layernorm.weight`, `${gguf}.ffn_norm.weight`, "norm", d);
    add(`${hf}.mlp.gate_proj.weight`, `${gguf}.ffn_gate.weight`, "matrix", m, d);
    add(`${hf}.mlp.up_proj.weight`, `${gguf}.ffn_up.weight`, "unevenMatrix", m, d);
    add(`${hf}.mlp.down_proj.weight`, `${gguf}.ffn_down.weight`, "matrix", d, m);
  }
  add("model.norm.weight", "output_norm.weight", "norm", d);
  if (!shape.tiedHead) add("lm_head.weight", "output.weight", "matrix", vocabSize, d);
  return tensors;
}

const BYTES_PER_WEIGHT = 2;

/** The model's size: all its weights in 16 bits. */
export function modelBytes(shape: ModelShape): number {
  const weights = modelTensors(shape).reduce((sum, tensor) => sum + elements(tensor.shape), 0);
  return weights * BYTES_PER_WEIGHT;
}

/** `config.json` of a checkpoint of this shape. */
export function checkpointConfig(shape: ModelShape): Record<string, unknown> {
  return {
    architectures: ["Qwen2ForCausalLM"],
    model_type: "qwen2",
    hidden_size: shape.hiddenSize,
    intermediate_size: shape.intermediateSize,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocabSize,
    rms_norm_eps: RMS_NORM_EPSILON,
    rope_theta: ROPE_BASE,
    max_position_embeddings: MAX_POSITIONS,
    tie_word_embeddings: shape.tiedHead,
    torch_dtype: "bfloat16",
  };
}

export const RMS_NORM_EPSILON = 1e-6;
export const ROPE_BASE = 1_000_000;
export const MAX_POSITIONS = 32_768;
