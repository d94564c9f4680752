import { WeightStoreError } from "../errors.js";
import type { Fields } from "../json-fields.js";
import type { Family } from "./family.js";
import { qwen2Shape } from "./qwen2.js";
import {
  decoderResidents,
  projectorResidents,
  siglipResidents,
  siglipShape,
  type ModelShape,
} from "./shapes.js";

/**
 * Prefixes seen in checkpoints, longest first. transformers up to 4.51, and 5.x again when it saves, write
 * `language_model.model.`; 4.52 and later wrote `model.language_model.`; 5.x drops `vision_model.` from the tower.
 */
const PREFIXES: readonly (readonly [from: string, to: string])[] = [
  ["language_model.model.", "decoder."],
  ["language_model.lm_head.", "lm_head."],
  ["language_model.", "decoder."],
  ["vision_tower.vision_model.", "vision."],
  ["vision_tower.", "vision."],
  ["multi_modal_projector.", "projector."],
];

export const llavaOnevision: Family = {
  modelType: "llava_onevision",
  shape,
  canonicalName(name) {
    const rest = name.startsWith("model.") ? name.slice("model.".length) : name;
    if (rest === "image_newline" || rest === "lm_head.weight") return rest;
    for (const [from, to] of PREFIXES) {
      if (rest.startsWith(from)) return to + rest.slice(from.length);
    }
    return name;
  },
  residents(model) {
    const { decoder, vision, projector } = model;
    if (vision === undefined || projector === undefined) throw new TypeError("not a vision model");
    return [
      ...decoderResidents(decoder),
      ...siglipResidents(vision),
      ...projectorResidents(decoder.hiddenSize, projector),
      { name: "image_newline", shape: [decoder.hiddenSize] },
    ];
  },
};

function shape(config: Fields): ModelShape {
  const text = config.object("text_config");
  const vision = config.object("vision_config");
  requireModelType(text, "text_config", "qwen2");
  requireModelType(vision, "vision_config", "siglip_vision_model");
  const decoder = qwen2Shape(text);
  const tower = siglipShape(vision);
  const featureLayer = config.values["vision_feature_layer"];
  const featureLayers = Array.isArray(featureLayer) ? featureLayer.length : 1;
  return {
    family: "llava_onevision",
    // Releases differ in which of the two they write and obey.
    decoder: {
      ...decoder,
      tieWordEmbeddings: decoder.tieWordEmbeddings || config.boolean("tie_word_embeddings", false),
    },
    vision: tower,
    projector: {
      inputSize: tower.hiddenSize * featureLayers,
      bias: config.boolean("multimodal_projector_bias", true),
    },
  };
}

function requireModelType(config: Fields, section: string, supported: string): void {
  const got = config.string("model_type", supported);
  if (got === supported) return;
  throw new WeightStoreError(
    "UNSUPPORTED_ARCHITECTURE",
    `${config.path}: llava_onevision with a ${section} of type ${JSON.stringify(got)} is not supported; ` +
      `supported: ${supported}.`,
    { path: config.path, name: `${section}.model_type`, expected: supported, got },
  );
}
