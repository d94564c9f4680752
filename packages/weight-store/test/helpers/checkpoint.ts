import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface RawTensor {
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

export type RawTensors = Record<string, RawTensor>;

/** A safetensors file as bytes; `edit` may spoil the header before it is encoded. */
export function safetensorsBytes(
  tensors: RawTensors,
  edit: (header: Record<string, unknown>) => void = () => undefined,
): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  edit(header);
  return withHeader(JSON.stringify(header), ...Object.values(tensors).map(({ bytes }) => bytes));
}

/** Length prefix, header text and data. */
export function withHeader(header: string | Uint8Array, ...data: Uint8Array[]): Buffer {
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...data]);
}

const ELEMENT_BYTES: Record<string, number> = { F32: 4, BF16: 2, F16: 2 };

/** Bytes that differ from tensor to tensor and run to run of nothing: a counter hashed with the name. */
export function tensorOf(name: string, dtype: string, shape: number[]): RawTensor {
  const bytes = Buffer.alloc(shape.reduce((a, b) => a * b, ELEMENT_BYTES[dtype]));
  for (let at = 0, block = 0; at < bytes.length; block++) {
    const hash = createHash("sha256").update(`${name}/${block}`).digest();
    at += hash.copy(bytes, at);
  }
  return { dtype, shape, bytes };
}

export interface TinyModel {
  family: "llama" | "qwen2" | "llava_onevision";
  dtype: string;
  layers: number;
  hiddenSize: number;
  intermediateSize: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabSize: number;
  tied: boolean;
}

export const TINY: TinyModel = {
  family: "llama",
  dtype: "BF16",
  layers: 2,
  hiddenSize: 24,
  intermediateSize: 40,
  heads: 4,
  kvHeads: 2,
  headDim: 7,
  vocabSize: 50,
  tied: false,
};

const VISION = {
  model_type: "siglip_vision_model",
  hidden_size: 12,
  intermediate_size: 20,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  image_size: 28,
  patch_size: 14,
  vision_use_head: false,
};

export function tinyConfig(model: TinyModel): Record<string, unknown> {
  const decoder = {
    model_type: model.family === "llava_onevision" ? "qwen2" : model.family,
    hidden_size: model.hiddenSize,
    intermediate_size: model.intermediateSize,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    num_key_value_heads: model.kvHeads,
    head_dim: model.headDim,
    vocab_size: model.vocabSize,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: model.tied,
  };
  if (model.family !== "llava_onevision") return decoder;
  return { model_type: "llava_onevision", text_config: decoder, vision_config: VISION };
}

/** The same with every element between 2^-7 and 2 in magnitude: random bits are NaN here and there. */
export function finiteTensors(model: TinyModel): RawTensors {
  const tensors = tinyTensors(model);
  Object.values(tensors).forEach(makeFinite);
  return tensors;
}

/** Replaces exponents, so that every element is between 2^-7 and 2 in magnitude. */
export function makeFinite({ dtype, bytes }: RawTensor): void {
  const elementBytes = ELEMENT_BYTES[dtype];
  const exponent = dtype === "F16" ? 0x38 : 0x3c;
  for (let at = elementBytes - 1; at < bytes.length; at += elementBytes) {
    bytes[at] = (bytes[at] & 0x83) | exponent;
  }
}

/** Where tensors of a family live, as different releases of transformers name them. */
export interface Naming {
  decoder: string;
  head: string;
  vision: string;
  projector: string;
  newline: string;
}

export const TEXT_NAMES: Naming = {
  decoder: "model.",
  head: "lm_head.weight",
  vision: "",
  projector: "",
  newline: "",
};

export const LLAVA_NAMES: Record<string, Naming> = {
  "transformers 4.40 to 4.51, llava-hf on the hub": {
    decoder: "language_model.model.",
    head: "language_model.lm_head.weight",
    vision: "vision_tower.vision_model.",
    projector: "multi_modal_projector.",
    newline: "image_newline",
  },
  "transformers 4.52 and later": {
    decoder: "model.language_model.",
    head: "lm_head.weight",
    vision: "model.vision_tower.vision_model.",
    projector: "model.multi_modal_projector.",
    newline: "model.image_newline",
  },
  "transformers 5": {
    decoder: "language_model.model.",
    head: "language_model.lm_head.weight",
    vision: "vision_tower.",
    projector: "multi_modal_projector.",
    newline: "image_newline",
  },
};

/** Every tensor of a tiny model, by the names of `naming`. */
export function tinyTensors(model: TinyModel, naming = namingOf(model)): RawTensors {
  const tensors: RawTensors = {};
  // Contents depend on the canonical part of the name only, so that namings can be compared.
  const add = (prefix: string, name: string, shape: number[]) => {
    tensors[prefix + name] = tensorOf(name, model.dtype, shape);
  };
  const { hiddenSize: d, intermediateSize: m, headDim } = model;
  add(naming.decoder, "embed_tokens.weight", [model.vocabSize, d]);
  add(naming.decoder, "norm.weight", [d]);
  if (!model.tied) {
    tensors[naming.head] = tensorOf("head", model.dtype, [model.vocabSize, d]);
  }
  for (let layer = 0; layer < model.layers; layer++) {
    const at = (name: string, shape: number[]) =>
      add(naming.decoder, `layers.${layer}.${name}`, shape);
    at("input_layernorm.weight", [d]);
    at("post_attention_layernorm.weight", [d]);
    at("self_attn.q_proj.weight", [model.heads * headDim, d]);
    at("self_attn.k_proj.weight", [model.kvHeads * headDim, d]);
    at("self_attn.v_proj.weight", [model.kvHeads * headDim, d]);
    at("self_attn.o_proj.weight", [d, model.heads * headDim]);
    at("mlp.gate_proj.weight", [m, d]);
    at("mlp.up_proj.weight", [m, d]);
    at("mlp.down_proj.weight", [d, m]);
    if (model.family === "llama") continue;
    at("self_attn.q_proj.bias", [model.heads * headDim]);
    at("self_attn.k_proj.bias", [model.kvHeads * headDim]);
    at("self_attn.v_proj.bias", [model.kvHeads * headDim]);
  }
  if (model.family === "llava_onevision") addVision(tensors, add, model, naming);
  return tensors;
}

function addVision(
  tensors: RawTensors,
  add: (prefix: string, name: string, shape: number[]) => void,
  model: TinyModel,
  naming: Naming,
): void {
  const { hidden_size: d, intermediate_size: m } = VISION;
  const vision = (name: string, shape: number[]) => add(naming.vision, name, shape);
  const linear = (name: string, outputs: number, inputs: number) => {
    vision(`${name}.weight`, [outputs, inputs]);
    vision(`${name}.bias`, [outputs]);
  };
  vision("embeddings.patch_embedding.weight", [d, 3, 14, 14]);
  vision("embeddings.patch_embedding.bias", [d]);
  vision("embeddings.position_embedding.weight", [4, d]);
  for (const norm of [
    "encoder.layers.0.layer_norm1",
    "encoder.layers.0.layer_norm2",
    "post_layernorm",
  ]) {
    vision(`${norm}.weight`, [d]);
    vision(`${norm}.bias`, [d]);
  }
  for (const name of ["q_proj", "k_proj", "v_proj", "out_proj"]) {
    linear(`encoder.layers.0.self_attn.${name}`, d, d);
  }
  linear("encoder.layers.0.mlp.fc1", m, d);
  linear("encoder.layers.0.mlp.fc2", d, m);
  for (const [index, inputs] of [d, model.hiddenSize].entries()) {
    add(naming.projector, `linear_${index + 1}.weight`, [model.hiddenSize, inputs]);
    add(naming.projector, `linear_${index + 1}.bias`, [model.hiddenSize]);
  }
  tensors[naming.newline] = tensorOf("newline", model.dtype, [model.hiddenSize]);
}

export function namingOf(model: TinyModel): Naming {
  return model.family === "llava_onevision" ? LLAVA_NAMES["transformers 5"] : TEXT_NAMES;
}

/** Writes a checkpoint directory; `shards` > 1 spreads the tensors over files with an index. */
export function writeCheckpoint(
  dir: string,
  model: TinyModel,
  options: { tensors?: RawTensors; shards?: number; config?: Record<string, unknown> } = {},
): RawTensors {
  const { tensors = tinyTensors(model), shards = 1, config = tinyConfig(model) } = options;
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "config.json"), JSON.stringify(config));
  writeFileSync(join(dir, "tokenizer.json"), '{"version":"1.0"}');
  writeFileSync(join(dir, "chat_template.jinja"), "{{ messages }}");
  writeFileSync(join(dir, "README.md"), "not part of the image");
  if (shards === 1) {
    writeFileSync(join(dir, "model.safetensors"), safetensorsBytes(tensors));
    return tensors;
  }
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-0000${shard + 1}-of-0000${shards}.safetensors`;
    const part = Object.entries(tensors).filter((_, index) => index % shards === shard);
    for (const [name] of part) weightMap[name] = file;
    writeFileSync(join(dir, file), safetensorsBytes(Object.fromEntries(part)));
  }
  writeFileSync(
    join(dir, "model.safetensors.index.json"),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
  return tensors;
}
