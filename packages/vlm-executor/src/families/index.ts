import { ConfigFields } from "../config-fields.js";
import type { ModelConfig } from "../config.js";
import { VlmExecutorError } from "../errors.js";
import { llama } from "./llama.js";
import { llavaOnevision } from "./llava-onevision.js";
import { qwen2 } from "./qwen2.js";
import type { Family } from "./family.js";

const FAMILIES: readonly Family[] = [llavaOnevision, qwen2, llama];

/** `model_type`s this executor runs. */
export const SUPPORTED_ARCHITECTURES: readonly string[] = FAMILIES.map(
  ({ modelType }) => modelType,
);

/**
 * The model a parsed `config.json` describes.
 *
 * @throws VlmExecutorError `UNSUPPORTED_ARCHITECTURE` (naming it and those supported), `INVALID_CONFIG`,
 *   `UNSUPPORTED_CONFIG`
 */
export function parseModelConfig(config: unknown): ModelConfig {
  const modelType = new ConfigFields(config, "config.json").raw("model_type");
  const family = FAMILIES.find((candidate) => candidate.modelType === modelType);
  if (family === undefined) {
    throw new VlmExecutorError(
      "UNSUPPORTED_ARCHITECTURE",
      `The architecture ${JSON.stringify(modelType) ?? "(none named)"} is not supported; supported are: ${SUPPORTED_ARCHITECTURES.join(", ")}.`,
      { expected: SUPPORTED_ARCHITECTURES, got: modelType },
    );
  }
  return family.parseConfig(config);
}
