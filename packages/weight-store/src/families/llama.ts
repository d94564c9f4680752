import { WeightStoreError } from "../errors.js";
import { textModelName, type Family } from "./family.js";
import { decoderResidents, decoderShape } from "./shapes.js";

export const llama: Family = {
  modelType: "llama",
  shape(config) {
    if (config.boolean("mlp_bias", false)) {
      throw new WeightStoreError(
        "UNSUPPORTED_ARCHITECTURE",
        `${config.path}: llama with mlp_bias is not supported; no published checkpoint has it.`,
        { path: config.path, name: "mlp_bias", expected: false, got: true },
      );
    }
    return {
      family: "llama",
      decoder: decoderShape(config, {
        qkvBias: false,
        biasOption: true,
        kvHeads: (heads) => heads,
        sizes: {
          vocab_size: 32_000,
          hidden_size: 4096,
          intermediate_size: 11_008,
          num_hidden_layers: 32,
          num_attention_heads: 32,
        },
      }),
    };
  },
  canonicalName: textModelName,
  residents: ({ decoder }) => decoderResidents(decoder),
};
