import type { Fields } from "../json-fields.js";
import { textModelName, type Family } from "./family.js";
import { decoderResidents, decoderShape, type DecoderShape } from "./shapes.js";

/** Sizes of a Qwen2 decoder; q, k and v always have biases. Defaults are those of `Qwen2Config`. */
export function qwen2Shape(config: Fields): DecoderShape {
  return decoderShape(config, {
    qkvBias: true,
    biasOption: false,
    kvHeads: () => 32,
    sizes: {
      vocab_size: 151_936,
      hidden_size: 4096,
      intermediate_size: 22_016,
      num_hidden_layers: 32,
      num_attention_heads: 32,
    },
  });
}

export const qwen2: Family = {
  modelType: "qwen2",
  shape: (config) => ({ family: "qwen2", decoder: qwen2Shape(config) }),
  canonicalName: textModelName,
  residents: ({ decoder }) => decoderResidents(decoder),
};
