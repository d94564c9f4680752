import { ConfigFields } from "../config-fields.js";
import type { DecoderConfig, ModelConfig } from "../config.js";
import { inverseFrequencies } from "../rope.js";

/** One model architecture: what its `config.json` means. Its arithmetic is shared (`decoder.ts`, `vision/`). */
export interface Family {
  /** `model_type` of `config.json`. */
  readonly modelType: string;
  /**
   * @throws VlmExecutorError `INVALID_CONFIG` or `UNSUPPORTED_CONFIG`, naming the field
   */
  parseConfig(config: unknown): ModelConfig;
}

/** A text decoder family: usable alone and as the language model of a multimodal one. */
export interface DecoderFamily extends Family {
  parseDecoder(config: ConfigFields): DecoderConfig;
}

/** Defaults of a transformers configuration class, which its files leave out. */
export interface DecoderDefaults {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layerCount: number;
  readonly headCount: number;
  /** `null`: as many as query heads. */
  readonly kvHeadCount: number | null;
  readonly vocabSize: number;
  readonly rmsNormEpsilon: number;
  readonly maxPositions: number;
}

/** What pre-norm, gated-MLP, rotary decoders have in common. */
export function parseGatedDecoder(
  config: ConfigFields,
  defaults: DecoderDefaults,
  biases: DecoderConfig["biases"],
): DecoderConfig {
  const hiddenSize = config.count("hidden_size", defaults.hiddenSize);
  const headCount = config.count("num_attention_heads", defaults.headCount);
  const kvDefault = config.raw("num_key_value_heads") === null ? null : defaults.kvHeadCount;
  const kvHeadCount = config.count("num_key_value_heads", kvDefault ?? headCount);
  const headDim = config.count("head_dim", Math.floor(hiddenSize / headCount));
  if (headCount % kvHeadCount !== 0) {
    throw config.invalid("num_key_value_heads", `a divisor of num_attention_heads (${headCount})`);
  }
  if (headDim % 2 !== 0) {
    throw config.invalid("head_dim", "even, as rotary embedding pairs the values of a head");
  }
  config.oneOf("hidden_act", "silu", ["silu"]);
  return {
    hiddenSize,
    intermediateSize: config.count("intermediate_size", defaults.intermediateSize),
    layerCount: config.count("num_hidden_layers", defaults.layerCount),
    headCount,
    kvHeadCount,
    headDim,
    vocabSize: config.count("vocab_size", defaults.vocabSize),
    rmsNormEpsilon: config.positive("rms_norm_eps", defaults.rmsNormEpsilon),
    inverseFrequencies: inverseFrequencies(config, headDim),
    maxPositions: config.count("max_position_embeddings", defaults.maxPositions),
    tiedHead: config.flag("tie_word_embeddings", false),
    biases,
  };
}

export function parseTextModel(family: DecoderFamily, config: unknown): ModelConfig {
  const fields = new ConfigFields(config, "config.json");
  return {
    architecture: family.modelType,
    decoder: family.parseDecoder(fields),
    stopTokenIds: fields.tokenIds("eos_token_id"),
  };
}
