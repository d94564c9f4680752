import type { ConfigFields } from "./config-fields.js";

const DEFAULT_THETA = 10000;
const SUPPORTED_TYPES = ["default", "linear", "llama3"] as const;

/**
 * Rotary inverse frequencies [headDim / 2] from `rope_parameters` (transformers 5) or `rope_theta` and
 * `rope_scaling` (transformers 4), computed in f32 as the reference does.
 *
 * @throws VlmExecutorError `UNSUPPORTED_CONFIG` for scalings that need more than fixed frequencies
 *   (yarn, dynamic, longrope) and for partial rotary embeddings
 */
export function inverseFrequencies(config: ConfigFields, headDim: number): Float32Array {
  const modern = config.has("rope_parameters");
  const section = modern ? "rope_parameters" : "rope_scaling";
  const parameters = config.has(section) ? config.object(section) : undefined;
  const theta = (modern ? parameters! : config).positive("rope_theta", DEFAULT_THETA);
  for (const fields of [config, parameters]) {
    if (fields?.has("partial_rotary_factor") && fields.raw("partial_rotary_factor") !== 1) {
      throw fields.unsupported("partial_rotary_factor", [1]);
    }
  }
  const frequencies = new Float32Array(headDim / 2);
  for (let i = 0; i < frequencies.length; i++) {
    const exponent = Math.fround((2 * i) / headDim);
    frequencies[i] = 1 / Math.fround(theta ** exponent);
  }
  if (parameters === undefined) return frequencies;
  const typeField = parameters.has("rope_type") ? "rope_type" : "type";
  const type = parameters.oneOf(typeField, "default", SUPPORTED_TYPES);
  if (type === "linear") return frequencies.map((f) => f / parameters.positive("factor"));
  if (type === "llama3") return llama3Frequencies(frequencies, parameters);
  return frequencies;
}

/**
 * Llama 3.1's scaling: wavelengths beyond `original / lowFactor` are stretched by `factor`, those
 * below `original / highFactor` stay, and those between are blended.
 */
function llama3Frequencies(frequencies: Float32Array, parameters: ConfigFields): Float32Array {
  const factor = parameters.positive("factor");
  const lowFactor = parameters.positive("low_freq_factor");
  const highFactor = parameters.positive("high_freq_factor");
  const original = parameters.positive("original_max_position_embeddings");
  return frequencies.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < original / highFactor) return frequency;
    if (wavelength > original / lowFactor) return frequency / factor;
    const smooth = (original / wavelength - lowFactor) / (highFactor - lowFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}
