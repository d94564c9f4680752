// Throughput and peak memory of a conversion at a real model's sizes:
//   node bench/convert.mjs [hiddenSize=3584] [intermediateSize=18944] [layers=2] [directory=the system's temporary one]
// Builds the package first: pnpm --filter @neuron-chunking/weight-store build
import { randomFillSync } from "node:crypto";
import { mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { convertCheckpoint } from "../dist/index.js";

const [hiddenSize = 3584, intermediateSize = 18944, layers = 2] = process.argv
  .slice(2, 5)
  .map(Number);
const dir = mkdtempSync(join(process.argv[5] ?? tmpdir(), "weight-store-bench-"));
const HEAD_DIM = 128;
const heads = hiddenSize / HEAD_DIM;
const kvHeads = heads % 4 === 0 ? heads / 4 : heads;

function shapes() {
  const all = {
    "model.embed_tokens.weight": [1000, hiddenSize],
    "model.norm.weight": [hiddenSize],
  };
  for (let layer = 0; layer < layers; layer++) {
    const at = (name, ...shape) => (all[`model.layers.${layer}.${name}.weight`] = shape);
    at("input_layernorm", hiddenSize);
    at("post_attention_layernorm", hiddenSize);
    at("self_attn.q_proj", hiddenSize, hiddenSize);
    at("self_attn.k_proj", kvHeads * HEAD_DIM, hiddenSize);
    at("self_attn.v_proj", kvHeads * HEAD_DIM, hiddenSize);
    at("self_attn.o_proj", hiddenSize, hiddenSize);
    at("mlp.gate_proj", intermediateSize, hiddenSize);
    at("mlp.up_proj", intermediateSize, hiddenSize);
    at("mlp.down_proj", hiddenSize, intermediateSize);
  }
  return all;
}

function writeCheckpoint() {
  const header = {};
  let end = 0;
  for (const [name, shape] of Object.entries(shapes())) {
    const bytes = shape.reduce((product, size) => product * size, 2);
    header[name] = { dtype: "BF16", shape, data_offsets: [end, end + bytes] };
    end += bytes;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(join(dir, "model.safetensors"), "w");
  writeSync(file, Buffer.concat([length, json]));
  const noise = randomFillSync(Buffer.alloc(16 << 20));
  // Below 2 in magnitude: among random bits there are NaN, which cannot be quantised.
  for (let at = 1; at < noise.length; at += 2) noise[at] &= 0xbf;
  for (let left = end; left > 0; left -= noise.length) {
    writeSync(file, noise, 0, Math.min(noise.length, left));
  }
  const sizes = { hidden_size: hiddenSize, intermediate_size: intermediateSize };
  const counts = { num_hidden_layers: layers, num_attention_heads: heads, vocab_size: 1000 };
  const rest = { num_key_value_heads: kvHeads, tie_word_embeddings: true, model_type: "llama" };
  writeFileSync(join(dir, "config.json"), JSON.stringify({ ...sizes, ...counts, ...rest }));
  return end;
}

function cases() {
  const order = Uint32Array.from({ length: intermediateSize }, (_, row) => row).reverse();
  const names = Array.from({ length: layers }, (_, layer) => `layers.${layer}.mlp_out`);
  return {
    "as it is": {},
    reordered: { permutations: Object.fromEntries(names.map((name) => [name, order])) },
    int8: { dtype: "int8" },
    int4: { dtype: "int4" },
  };
}

try {
  const bytes = writeCheckpoint();
  for (const [name, options] of Object.entries(cases())) {
    const ms = {};
    let last = performance.now();
    const start = last;
    await convertCheckpoint({
      checkpointDir: dir,
      outputDir: join(dir, "image"),
      overwrite: true,
      ...options,
      onProgress({ phase }) {
        const now = performance.now();
        ms[phase] = (ms[phase] ?? 0) + now - last;
        last = now;
      },
    });
    const seconds = (performance.now() - start) / 1000;
    const phases = Object.entries(ms).map(
      ([phase, time]) => `${phase} ${(time / 1000).toFixed(2)} s`,
    );
    console.log(
      `${name}: ${(bytes / 1e6).toFixed(0)} MB in ${seconds.toFixed(2)} s ` +
        `(${(bytes / 1e6 / seconds).toFixed(0)} MB/s): ${phases.join(", ")}`,
    );
  }
  console.log(`peak RSS ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
