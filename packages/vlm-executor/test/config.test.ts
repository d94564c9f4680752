import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseModelConfig, SUPPORTED_ARCHITECTURES } from "../src/families/index.js";
import { modelPath } from "./support/goldens.js";

type Json = Record<string, unknown>;
const LLAVA = JSON.parse(
  readFileSync(join(modelPath("llava-tied-f32"), "config.json"), "utf8"),
) as Json & { text_config: Json; vision_config: Json };

/** A published shape, with the fields that its config.json has. */
const QWEN2 = {
  model_type: "qwen2",
  hidden_size: 896,
  intermediate_size: 4864,
  num_attention_heads: 14,
  num_hidden_layers: 24,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000.0,
  sliding_window: 32768,
  use_sliding_window: false,
  max_window_layers: 24,
  tie_word_embeddings: true,
  vocab_size: 151936,
  eos_token_id: 151645,
};

const error = (config: unknown) => {
  try {
    parseModelConfig(config);
  } catch (cause) {
    return cause as { code: string; message: string };
  }
  throw new Error("accepted");
};

describe("text models", () => {
  it("reads a Qwen2 configuration", () => {
    const { decoder, stopTokenIds, multimodal } = parseModelConfig(QWEN2);
    expect(decoder).toMatchObject({
      hiddenSize: 896,
      headDim: 64,
      kvHeadCount: 2,
      tiedHead: true,
      biases: { qkv: true, output: false, mlp: false },
    });
    expect(decoder.inverseFrequencies).toHaveLength(32);
    expect(decoder.inverseFrequencies[1]).toBeCloseTo(1000000 ** (-2 / 64), 6);
    expect(stopTokenIds).toEqual([151645]);
    expect(multimodal).toBeUndefined();
  });

  it("takes what is left out from the defaults of transformers", () => {
    const { decoder } = parseModelConfig({ model_type: "llama" });
    expect(decoder).toMatchObject({ hiddenSize: 4096, intermediateSize: 11008, kvHeadCount: 32 });
    expect(parseModelConfig({ model_type: "qwen2" }).decoder.intermediateSize).toBe(22016);
  });

  it("takes biases where a Llama has them", () => {
    const { biases } = parseModelConfig({ model_type: "llama", attention_bias: true }).decoder;
    expect(biases).toEqual({ qkv: true, output: true, mlp: false });
  });

  it("takes stop tokens as a number, a list or nothing", () => {
    const stops = (eos: unknown) =>
      parseModelConfig({ model_type: "llama", eos_token_id: eos }).stopTokenIds;
    expect(stops(2)).toEqual([2]);
    expect(stops([1, 2])).toEqual([1, 2]);
    expect(stops(null)).toEqual([]);
  });

  it.each([
    ["sliding windows", { use_sliding_window: true, max_window_layers: 2 }],
    ["sliding windows by layer", { layer_types: ["full_attention", "sliding_attention"] }],
    ["yarn", { rope_scaling: { rope_type: "yarn", factor: 4 } }],
    ["dynamic scaling", { rope_parameters: { rope_type: "dynamic", rope_theta: 1e4, factor: 2 } }],
    ["partial rotary", { partial_rotary_factor: 0.5 }],
    ["other activations", { hidden_act: "gelu" }],
  ])("refuses %s", (_name, fields) => {
    expect(error({ ...QWEN2, ...fields }).code).toBe("UNSUPPORTED_CONFIG");
  });

  it("accepts a window that no layer uses", () => {
    expect(() => parseModelConfig({ ...QWEN2, use_sliding_window: true })).not.toThrow();
  });

  it.each([
    ["hidden_size", "896"],
    ["num_hidden_layers", 0],
    ["num_key_value_heads", 3],
    ["head_dim", 63],
    ["rms_norm_eps", -1],
    ["vocab_size", 1.5],
    ["tie_word_embeddings", "yes"],
    ["eos_token_id", [1, "2"]],
    ["rope_theta", 0],
    ["rope_parameters", []],
  ])("names %s when it is %j", (name, value) => {
    const { code, message } = error({ ...QWEN2, [name]: value });
    expect(code).toBe("INVALID_CONFIG");
    expect(message).toContain(name);
  });
});

describe("rotary scaling", () => {
  it("divides frequencies under linear scaling, in both notations", () => {
    const plain = parseModelConfig(QWEN2).decoder.inverseFrequencies;
    for (const fields of [
      { rope_scaling: { type: "linear", factor: 4 } },
      { rope_parameters: { rope_type: "linear", factor: 4, rope_theta: 1000000 } },
    ]) {
      const scaled = parseModelConfig({ ...QWEN2, ...fields }).decoder.inverseFrequencies;
      scaled.forEach((frequency, i) => expect(frequency).toBeCloseTo(plain[i] / 4, 9));
    }
  });
});

describe("llava_onevision", () => {
  it("reads the fixture's configuration", () => {
    const { decoder, multimodal } = parseModelConfig(LLAVA);
    expect(decoder.tiedHead).toBe(true);
    expect(multimodal!.maxTiles).toBe(4);
    expect(multimodal!.featureLayers).toEqual([multimodal!.vision.layerCount]);
  });

  it.each([
    [-1, [2]],
    [-2, [1]],
    [0, [0]],
    [
      [1, -1],
      [1, 2],
    ],
  ])("counts feature layer %j among the tower's hidden states", (layer, expected) => {
    const config = {
      ...LLAVA,
      vision_feature_layer: layer,
      vision_config: { ...LLAVA.vision_config, num_hidden_layers: 2 },
    };
    expect(parseModelConfig(config).multimodal!.featureLayers).toEqual(expected);
  });

  it.each([
    ["a class token", { vision_feature_select_strategy: "default" }, "UNSUPPORTED_CONFIG"],
    ["other towers", { vision_config: { model_type: "clip_vision_model" } }, "UNSUPPORTED_CONFIG"],
    ["other decoders", { text_config: { model_type: "mistral" } }, "UNSUPPORTED_CONFIG"],
    ["other ratios", { vision_aspect_ratio: "square" }, "UNSUPPORTED_CONFIG"],
    ["layers it lacks", { vision_feature_layer: 99 }, "INVALID_CONFIG"],
    ["an empty grid", { image_grid_pinpoints: [] }, "INVALID_CONFIG"],
    ["no tower", { vision_config: null }, "INVALID_CONFIG"],
  ])("refuses %s", (_name, fields, code) => {
    expect(error({ ...LLAVA, ...fields }).code).toBe(code);
  });
});

describe("other architectures", () => {
  it.each([{ model_type: "qwen2_vl" }, { model_type: 5 }, {}])("are refused by name: %j", (c) => {
    const { code, message } = error(c);
    expect(code).toBe("UNSUPPORTED_ARCHITECTURE");
    for (const name of SUPPORTED_ARCHITECTURES) expect(message).toContain(name);
  });

  it.each([null, [], "qwen2", 5])("are not described by %j", (c) => {
    expect(error(c).code).toBe("INVALID_CONFIG");
  });
});
