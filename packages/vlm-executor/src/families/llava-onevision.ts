/**
 * LLaVA-OneVision: pictures become decoder inputs in place of their placeholder tokens,
 *
 *     features = projector(siglip(tile))                  projector: linear, GELU, linear
 *     picture  = [whole picture, tiles side by side without padding, a newline vector per row]
 *     clip     = [each frame's features pooled 2x2, ..., one newline vector]
 *
 * and a Qwen2 decoder does the rest.
 */
import { ConfigFields } from "../config-fields.js";
import type { ModelConfig, MultimodalConfig, VisionConfig } from "../config.js";
import { qwen2 } from "./qwen2.js";
import type { Family } from "./family.js";

const IMAGE_TOKEN_ID = 151646;
const VIDEO_TOKEN_ID = 151647;
const GRID_SIDES = [384, 768, 1152, 1536, 1920, 2304];

export const llavaOnevision: Family = {
  modelType: "llava_onevision",
  parseConfig(config): ModelConfig {
    const fields = new ConfigFields(config, "config.json");
    const text = fields.object("text_config");
    text.oneOf("model_type", qwen2.modelType, [qwen2.modelType]);
    const decoder = qwen2.parseDecoder(text);
    const tiedHead = fields.flag("tie_word_embeddings", false) || decoder.tiedHead;
    return {
      architecture: this.modelType,
      decoder: { ...decoder, tiedHead },
      multimodal: parseMultimodal(fields),
      stopTokenIds: [...fields.tokenIds("eos_token_id"), ...text.tokenIds("eos_token_id")],
    };
  },
};

function parseMultimodal(fields: ConfigFields): MultimodalConfig {
  fields.oneOf("projector_hidden_act", "gelu", ["gelu"]);
  // "default" drops a class token, which SigLIP does not have.
  fields.oneOf("vision_feature_select_strategy", "full", ["full"]);
  const vision = parseVision(fields.object("vision_config"));
  return {
    vision,
    // Written by transformers under either name.
    imageTokenId: fields.count(
      fields.has("image_token_id") ? "image_token_id" : "image_token_index",
      IMAGE_TOKEN_ID,
      0,
    ),
    videoTokenId: fields.count(
      fields.has("video_token_id") ? "video_token_id" : "video_token_index",
      VIDEO_TOKEN_ID,
      0,
    ),
    featureLayers: parseFeatureLayers(fields, vision.layerCount),
    projectorBias: fields.flag("multimodal_projector_bias", true),
    gridPinpoints: parseGrid(fields),
    maxTiles: parseMaxTiles(fields),
  };
}

function parseVision(fields: ConfigFields): VisionConfig {
  fields.oneOf("model_type", "siglip_vision_model", ["siglip_vision_model"]);
  const vision: VisionConfig = {
    hiddenSize: fields.count("hidden_size", 768),
    intermediateSize: fields.count("intermediate_size", 3072),
    layerCount: fields.count("num_hidden_layers", 12),
    headCount: fields.count("num_attention_heads", 12),
    imageSize: fields.count("image_size", 224),
    patchSize: fields.count("patch_size", 16),
    channels: fields.count("num_channels", 3),
    layerNormEpsilon: fields.positive("layer_norm_eps", 1e-6),
    activation: fields.oneOf("hidden_act", "gelu_pytorch_tanh", ["gelu_pytorch_tanh", "gelu"]),
  };
  if (vision.hiddenSize % vision.headCount !== 0) {
    throw fields.invalid("num_attention_heads", `a divisor of hidden_size (${vision.hiddenSize})`);
  }
  if (vision.patchSize > vision.imageSize) {
    throw fields.invalid("patch_size", `at most image_size (${vision.imageSize})`);
  }
  return vision;
}

/** Indices into `layerCount + 1` hidden states; negative ones count from the last. */
function parseFeatureLayers(fields: ConfigFields, layerCount: number): number[] {
  const value = fields.raw("vision_feature_layer") ?? -1;
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const states = layerCount + 1;
  const valid = (index: unknown): index is number =>
    Number.isSafeInteger(index) && (index as number) >= -states && (index as number) < states;
  if (list.length === 0 || !list.every(valid)) {
    throw fields.invalid("vision_feature_layer", `one or more of -${states} to ${states - 1}`);
  }
  return list.map((index) => (index < 0 ? index + states : index));
}

function parseGrid(fields: ConfigFields): [number, number][] {
  const value = fields.raw("image_grid_pinpoints");
  if (value === undefined || value === null) {
    return GRID_SIDES.flatMap((height) =>
      GRID_SIDES.map((width): [number, number] => [height, width]),
    );
  }
  const size = (n: unknown) => Number.isSafeInteger(n) && (n as number) > 0;
  const valid = (pair: unknown) => Array.isArray(pair) && pair.length === 2 && pair.every(size);
  if (!Array.isArray(value) || value.length === 0 || !value.every(valid)) {
    throw fields.invalid("image_grid_pinpoints", "a list of [height, width] in pixels");
  }
  return value as [number, number][];
}

function parseMaxTiles(fields: ConfigFields): number {
  const match = /^anyres_max_([1-9]\d*)$/.exec(fields.text("vision_aspect_ratio", "anyres_max_9"));
  if (match === null) throw fields.unsupported("vision_aspect_ratio", ["anyres_max_N"]);
  return Number(match[1]);
}
