/**
 * Qwen2: per layer
 *
 *     x = RMSNorm(h);  q, k, v = x Wqkv + b;  h += Attention(RoPE(q), RoPE(k), v) Wo
 *     x = RMSNorm(h);  h += (silu(x Wgate) * (x Wup)) Wdown
 *
 * with fewer key/value heads than query heads. Only q, k and v carry a bias.
 */
import type { ConfigFields } from "../config-fields.js";
import type { DecoderConfig } from "../config.js";
import { parseGatedDecoder, parseTextModel } from "./family.js";
import type { DecoderDefaults, DecoderFamily } from "./family.js";

const DEFAULTS: DecoderDefaults = {
  hiddenSize: 4096,
  intermediateSize: 22016,
  layerCount: 32,
  headCount: 32,
  kvHeadCount: 32,
  vocabSize: 151936,
  rmsNormEpsilon: 1e-6,
  maxPositions: 32768,
};
const DEFAULT_SLIDING_WINDOW = 4096;
const DEFAULT_MAX_WINDOW_LAYERS = 28;

export const qwen2: DecoderFamily = {
  modelType: "qwen2",
  parseConfig: (config) => parseTextModel(qwen2, config),
  parseDecoder(config): DecoderConfig {
    const biases = { qkv: true, output: false, mlp: false };
    const decoder = parseGatedDecoder(config, DEFAULTS, biases);
    refuseSlidingWindow(config, decoder.layerCount);
    return decoder;
  },
};

/** Layers from `max_window_layers` on attend to a window when it is in use; full attention would differ. */
function refuseSlidingWindow(config: ConfigFields, layerCount: number): void {
  const layerTypes = config.raw("layer_types");
  if (Array.isArray(layerTypes)) {
    if (layerTypes.some((type) => type !== "full_attention")) {
      throw config.unsupported("layer_types", ["full_attention"]);
    }
    return;
  }
  if (!config.flag("use_sliding_window", false)) return;
  const window = config.raw("sliding_window") === null ? null : DEFAULT_SLIDING_WINDOW;
  const firstWindowLayer = config.count("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS, 0);
  if (window !== null && firstWindowLayer < layerCount) {
    throw config.unsupported("use_sliding_window", [false]);
  }
}
