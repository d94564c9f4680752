import type { Fields } from "../json-fields.js";
import type { ExpectedTensor, ModelShape } from "./shapes.js";

/** What the converter must know of an architecture; one small file each beside this one. */
export interface Family {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** Reads and checks the sizes that conversion needs. */
  shape(config: Fields): ModelShape;
  /**
   * The canonical name of a checkpoint tensor, whatever release of transformers wrote it; the name itself where the
   * family does not know it.
   */
  canonicalName(name: string): string;
  /** Tensors kept in memory, the language model head excepted. */
  residents(model: ModelShape): ExpectedTensor[];
}

/** Buffers that older releases saved and no release needs: they are computed from the configuration. */
const COMPUTED_BUFFERS = /\.(rotary_emb\.inv_freq|embeddings\.position_ids|masked_bias)$/;
/** SigLIP's pooling head, which LLaVA leaves unused. */
const UNUSED_VISION_HEAD = /^vision\.head\./;

/** Whether a tensor, by canonical name, may be left out of the image without changing what the model computes. */
export function isUnused(canonicalName: string): boolean {
  return COMPUTED_BUFFERS.test(canonicalName) || UNUSED_VISION_HEAD.test(canonicalName);
}

/** Names of a text-only checkpoint: `model.layers...` of a causal LM, or `layers...` of a bare base model. */
export function textModelName(name: string): string {
  if (name === "lm_head.weight") return name;
  const rest = name.startsWith("model.") ? name.slice("model.".length) : name;
  return /^(layers|embed_tokens|norm)\./.test(rest) ? `decoder.${rest}` : name;
}
