import { openSync, ftruncateSync, closeSync, writeSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { readManifest } from "../src/manifest.js";
import { PANEL_BYTES } from "../src/write-bundle.js";
import { convertInChild } from "./helpers/child.js";
import { TINY, tinyConfig, type TinyModel } from "./helpers/checkpoint.js";
import { workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();

/** A matrix larger than the converter's panel, in a checkpoint that is mostly one hole: 258 MiB that are never written. */
const model: TinyModel = {
  ...TINY,
  layers: 1,
  hiddenSize: 2048,
  intermediateSize: 22_016,
  heads: 1,
  kvHeads: 1,
  headDim: 8,
  tied: true,
};

function shapes(): Record<string, number[]> {
  const { hiddenSize: d, intermediateSize: m, headDim, vocabSize } = model;
  const layer = "model.layers.0.";
  return {
    "model.embed_tokens.weight": [vocabSize, d],
    "model.norm.weight": [d],
    [`${layer}input_layernorm.weight`]: [d],
    [`${layer}post_attention_layernorm.weight`]: [d],
    [`${layer}self_attn.q_proj.weight`]: [headDim, d],
    [`${layer}self_attn.k_proj.weight`]: [headDim, d],
    [`${layer}self_attn.v_proj.weight`]: [headDim, d],
    [`${layer}self_attn.o_proj.weight`]: [d, headDim],
    [`${layer}mlp.gate_proj.weight`]: [m, d],
    [`${layer}mlp.up_proj.weight`]: [m, d],
    [`${layer}mlp.down_proj.weight`]: [d, m],
  };
}

const checkpointDir = join(dir, "checkpoint");

beforeAll(() => {
  mkdirSync(checkpointDir);
  writeFileSync(join(checkpointDir, "config.json"), JSON.stringify(tinyConfig(model)));
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, shape] of Object.entries(shapes())) {
    const bytes = shape.reduce((a, b) => a * b, 2);
    header[name] = { dtype: "BF16", shape, data_offsets: [end, end + bytes] };
    end += bytes;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(join(checkpointDir, "model.safetensors"), "w");
  writeSync(file, Buffer.concat([length, json]));
  ftruncateSync(file, 8 + json.length + end);
  closeSync(file);
});

const OPTIONS = [{}, { dtype: "int8" }, { dtype: "int4" }] as const;
it.each(OPTIONS)("peak memory stays below 512 MiB beyond the panel, with %j", async (options) => {
  const outputDir = join(dir, `image-${JSON.stringify(options)}`);
  const { maxRssKiB, code } = convertInChild({ checkpointDir, outputDir, ...options });
  expect(code).toBeUndefined();
  console.info(`peak RSS of a conversion: ${((maxRssKiB ?? 0) / 1024).toFixed(0)} MiB`);
  expect(maxRssKiB).toBeLessThan(512 * 1024);
  const { flash } = await readManifest(outputDir);
  const sizesBytes = flash.bundles.map(
    ({ rows, parts }) => 2 * rows * parts.reduce((sum, { columns }) => sum + columns, 0),
  );
  expect(Math.max(...sizesBytes)).toBeGreaterThan(PANEL_BYTES);
});
