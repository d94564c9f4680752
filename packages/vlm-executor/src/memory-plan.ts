import type { DecoderConfig, ModelConfig } from "./config.js";
import { patchesPerTile } from "./config.js";
import { RunState } from "./decoder.js";
import { VlmExecutorError } from "./errors.js";
import { kvCacheBytes } from "./kv-cache.js";
import { visionStateElements } from "./vision/siglip.js";

const F32_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** Bytes an open model with one session holds. What streams from flash is in none of them. */
export interface MemoryPlan {
  /** Embeddings, LM head, norms, biases, vision tower, projector. */
  readonly residentBytes: number;
  /** Keys and values of one session. */
  readonly kvCacheBytes: number;
  /** Activations of one session's pass. */
  readonly runStateBytes: number;
  /** Activations of the vision tower and the projector. */
  readonly visionStateBytes: number;
  /** Pixels and features of the largest picture the model's tile grid allows, while one is taken in. */
  readonly pictureBytes: number;
  /** Memory that weights land in, and the selection's workspace. */
  readonly landingBytes: number;
  readonly totalBytes: number;
  /** Decoder weights that stay on flash. */
  readonly streamedBytes: number;
  readonly contextLength: number;
  readonly blockTokens: number;
}

export interface MemoryPlanInput {
  readonly config: ModelConfig;
  readonly residentBytes: number;
  readonly streamedBytes: number;
  readonly contextLength: number;
  readonly blockTokens: number;
  readonly landingBytes: number;
  readonly bundled: boolean;
}

export function planMemory(input: MemoryPlanInput): MemoryPlan {
  const { config, contextLength, blockTokens } = input;
  const parts = {
    residentBytes: input.residentBytes,
    kvCacheBytes: kvCacheBytes(config.decoder, contextLength),
    runStateBytes: runStateBytes(config.decoder, blockTokens, input.bundled),
    visionStateBytes: visionStateBytes(config),
    pictureBytes: pictureBytes(config),
    landingBytes: input.landingBytes,
  };
  return {
    ...parts,
    totalBytes: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0),
    streamedBytes: input.streamedBytes,
    contextLength,
    blockTokens,
  };
}

function runStateBytes(config: DecoderConfig, blockTokens: number, bundled: boolean): number {
  const { hiddenSize, intermediateSize, headCount, kvHeadCount, headDim, vocabSize } = config;
  // Gathered inputs of reordered matrices; outputs of matrices stored one by one.
  const gathered = hiddenSize + headCount * headDim;
  const parts = bundled ? 0 : (headCount + kvHeadCount) * headDim + intermediateSize;
  const perToken = RunState.columns(config) + gathered + parts;
  // Logits exist in the backend and on the host, there the last ones and the next.
  return (blockTokens * perToken + 3 * vocabSize + 2 * hiddenSize) * F32_BYTES;
}

function visionStateBytes({ multimodal, decoder }: ModelConfig): number {
  if (multimodal === undefined) return 0;
  const { vision, featureLayers } = multimodal;
  const perPatch = featureLayers.length * vision.hiddenSize + 2 * decoder.hiddenSize;
  return (visionStateElements(vision) + patchesPerTile(vision) * perPatch) * F32_BYTES;
}

function pictureBytes({ multimodal, decoder }: ModelConfig): number {
  if (multimodal === undefined) return 0;
  const { vision, gridPinpoints } = multimodal;
  const tileArea = vision.imageSize ** 2;
  const tiles = 1 + Math.max(...gridPinpoints.map(([h, w]) => Math.ceil((h * w) / tileArea)));
  // Features before and after they are arranged.
  const perTile = vision.channels * tileArea + 2 * patchesPerTile(vision) * decoder.hiddenSize;
  return tiles * perTile * F32_BYTES;
}

/** @throws VlmExecutorError `MEMORY_BUDGET_EXCEEDED`, saying what is needed and what would help */
export function requireBudget(plan: MemoryPlan, budgetBytes: number | undefined): void {
  if (budgetBytes === undefined || plan.totalBytes <= budgetBytes) return;
  const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  throw new VlmExecutorError(
    "MEMORY_BUDGET_EXCEEDED",
    `This model needs ${mebibytes(plan.totalBytes)} and the budget is ${mebibytes(budgetBytes)}: ` +
      `${mebibytes(plan.residentBytes)} resident weights, ${mebibytes(plan.kvCacheBytes)} KV cache for ${plan.contextLength} tokens, ` +
      `${mebibytes(plan.runStateBytes + plan.visionStateBytes)} activations for blocks of ${plan.blockTokens}, ${mebibytes(plan.pictureBytes)} for a picture, ${mebibytes(plan.landingBytes)} landing buffers. ` +
      "Lower contextLength, blockTokens or landingBytes, or raise the budget.",
    { expected: plan.totalBytes, got: budgetBytes },
  );
}
