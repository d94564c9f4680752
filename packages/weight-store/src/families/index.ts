import { WeightStoreError } from "../errors.js";
import type { Fields } from "../json-fields.js";
import type { Family } from "./family.js";
import { llama } from "./llama.js";
import { llavaOnevision } from "./llava-onevision.js";
import { qwen2 } from "./qwen2.js";

const FAMILIES: readonly Family[] = [llavaOnevision, qwen2, llama];

/** `model_type` of every architecture that can be converted. */
export const SUPPORTED_MODEL_TYPES: readonly string[] = FAMILIES.map((family) => family.modelType);

/**
 * The family a configuration belongs to.
 * @throws WeightStoreError UNSUPPORTED_ARCHITECTURE naming the architecture and those supported, INVALID_CONFIG.
 */
export function familyOf(config: Fields): Family {
  const modelType = config.string("model_type");
  const family = FAMILIES.find((candidate) => candidate.modelType === modelType);
  if (family === undefined) {
    throw new WeightStoreError(
      "UNSUPPORTED_ARCHITECTURE",
      `${config.path}: architecture ${JSON.stringify(modelType)} is not supported; ` +
        `supported: ${SUPPORTED_MODEL_TYPES.join(", ")}.`,
      { path: config.path, expected: SUPPORTED_MODEL_TYPES, got: modelType },
    );
  }
  if (config.has("quantization_config")) {
    throw new WeightStoreError(
      "UNSUPPORTED_ARCHITECTURE",
      `${config.path}: the checkpoint is quantized (quantization_config); ` +
        `use the F32, BF16 or F16 checkpoint of the same model.`,
      { path: config.path, name: "quantization_config" },
    );
  }
  return family;
}
