/**
 * Llama: per layer
 *
 *     x = RMSNorm(h);  q, k, v = x Wqkv;  h += Attention(RoPE(q), RoPE(k), v) Wo
 *     x = RMSNorm(h);  h += (silu(x Wgate) * (x Wup)) Wdown
 *
 * `attention_bias` and `mlp_bias` put a bias on the projections of each half.
 */
import type { DecoderConfig } from "../config.js";
import { parseGatedDecoder, parseTextModel } from "./family.js";
import type { DecoderDefaults, DecoderFamily } from "./family.js";

const DEFAULTS: DecoderDefaults = {
  hiddenSize: 4096,
  intermediateSize: 11008,
  layerCount: 32,
  headCount: 32,
  kvHeadCount: null,
  vocabSize: 32000,
  rmsNormEpsilon: 1e-6,
  maxPositions: 2048,
};

export const llama: DecoderFamily = {
  modelType: "llama",
  parseConfig: (config) => parseTextModel(llama, config),
  parseDecoder(config): DecoderConfig {
    const attention = config.flag("attention_bias", false);
    const mlp = config.flag("mlp_bias", false);
    return parseGatedDecoder(config, DEFAULTS, { qkv: attention, output: attention, mlp });
  },
};
