import type { DecoderConfig, ModelConfig } from "./config.js";
import { patchesPerTile } from "./config.js";
import { RunState } from "./decoder.js";
import { VlmExecutorError } from "./errors.js";
import { kvCacheBytes } from "./kv-cache.js";
import type { PrefixPlan } from "./prefix-plan.js";
import {
  decodingBytes,
  heapBytes,
  kernelScratchBytes,
  parsingBytes,
  processBytes,
} from "./process-memory.js";
import type { InputFileSizes } from "./process-memory.js";
import { visionStateElements } from "./vision/siglip.js";

const F32_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** Bytes that the process of an open model with one session holds. What streams from flash is in none of them. */
export interface MemoryPlan {
  /** Node, code, native libraries and threads, the reader. */
  readonly processBytes: number;
  /** V8's heap: the tokenizer, and the objects and garbage of a run. */
  readonly heapBytes: number;
  /** Embeddings, LM head, norms, biases, vision tower, projector, row orders. */
  readonly residentBytes: number;
  /** First rows of stored matrices that a budget has room for; 0 without a budget. */
  readonly prefixBytes: number;
  /** Keys and values of one session. */
  readonly kvCacheBytes: number;
  /** Activations of one session's pass. */
  readonly runStateBytes: number;
  /** Activations of the vision tower and the projector. */
  readonly visionStateBytes: number;
  /** One picture of up to `pictureLimitPixels` decoded, and its tiles and their features while it is taken in. */
  readonly pictureBytes: number;
  /** What the kernels keep between calls. */
  readonly scratchBytes: number;
  /** Memory that weights land in, and the selection's workspace. */
  readonly landingBytes: number;
  /** Memory for rows that are read before it is known that they are needed; 0 where none are, or a budget has no room for it. */
  readonly readAheadBytes: number;
  /** The sum, or, where that is more, what parsing the tokenizer takes before anything else is loaded. */
  readonly totalBytes: number;
  /** The least budget that these options can run in. */
  readonly minimumBytes: number;
  /** Decoder weights that stay on flash. */
  readonly streamedBytes: number;
  readonly contextLength: number;
  readonly blockTokens: number;
  /** Most pixels of a picture, and most tiles of all pictures and frames of a prompt; 0 in text models. */
  readonly pictureLimitPixels: number;
  readonly tileLimit: number;
  /** Rows in memory, and the read time of a pass that is left. */
  readonly prefix: PrefixPlan;
}

/** @internal What reading ahead takes, 0 where it is not wanted; what is optional is left out rather than a budget refused. */
export interface ReadAheadNeed {
  readonly bytes: number;
  readonly isOptional: boolean;
}

/** @internal What `planMemory` adds up. */
export interface MemoryPlanInput {
  readonly config: ModelConfig;
  readonly files: InputFileSizes;
  readonly residentBytes: number;
  readonly streamedBytes: number;
  readonly contextLength: number;
  readonly blockTokens: number;
  readonly landingBytes: number;
  readonly readAhead: ReadAheadNeed;
  readonly pictureLimitPixels: number;
  readonly bundled: boolean;
  /** Fills so many bytes, or all it can; with 0 it says what a pass costs without. */
  readonly fillPrefixes: (spareBytes: number) => PrefixPlan;
  readonly budgetBytes: number | undefined;
}

/** @internal */
export function planMemory(input: MemoryPlanInput): MemoryPlan {
  const { config, contextLength, blockTokens, files, budgetBytes } = input;
  const parts = {
    processBytes: processBytes(config),
    heapBytes: heapBytes(files),
    residentBytes: input.residentBytes,
    kvCacheBytes: kvCacheBytes(config.decoder, contextLength),
    runStateBytes: runStateBytes(config.decoder, blockTokens, input.bundled),
    visionStateBytes: visionStateBytes(config),
    pictureBytes: pictureBytes(config, input.pictureLimitPixels),
    scratchBytes: kernelScratchBytes(config, blockTokens),
    landingBytes: input.landingBytes,
  };
  const runBytes = Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);
  const peakWith = (moreBytes: number): number =>
    Math.max(runBytes + moreBytes, parts.processBytes + parsingBytes(files));
  const { readAhead } = input;
  const minimumBytes = peakWith(readAhead.isOptional ? 0 : readAhead.bytes);
  const hasRoom = budgetBytes === undefined || peakWith(readAhead.bytes) <= budgetBytes;
  const readAheadBytes = readAhead.isOptional && !hasRoom ? 0 : readAhead.bytes;
  const prefix = input.fillPrefixes(Math.max(0, (budgetBytes ?? 0) - peakWith(readAheadBytes)));
  return {
    ...parts,
    readAheadBytes,
    prefixBytes: prefix.bytes,
    totalBytes: peakWith(readAheadBytes + prefix.bytes),
    minimumBytes,
    streamedBytes: input.streamedBytes,
    contextLength,
    blockTokens,
    pictureLimitPixels: config.multimodal === undefined ? 0 : input.pictureLimitPixels,
    tileLimit: tileLimit(config),
    prefix,
  };
}

function runStateBytes(config: DecoderConfig, blockTokens: number, bundled: boolean): number {
  const { hiddenSize, intermediateSize, headCount, kvHeadCount, headDim, vocabSize } = config;
  // Gathered inputs of reordered matrices; outputs of matrices stored one by one.
  const gathered = hiddenSize + headCount * headDim;
  const parts = bundled ? 0 : (headCount + kvHeadCount) * headDim + intermediateSize;
  const perToken = RunState.columns(config) + gathered + parts;
  // Logits exist in the backend and on the host, there the last ones and the next, and a copy handed out.
  return (blockTokens * perToken + 4 * vocabSize + 2 * hiddenSize) * F32_BYTES;
}

function visionStateBytes({ multimodal, decoder }: ModelConfig): number {
  if (multimodal === undefined) return 0;
  const { vision, featureLayers } = multimodal;
  const perPatch = featureLayers.length * vision.hiddenSize + 2 * decoder.hiddenSize;
  return (visionStateElements(vision) + patchesPerTile(vision) * perPatch) * F32_BYTES;
}

/** The largest picture's tiles: the whole of it, and its canvas. */
function tileLimit({ multimodal }: ModelConfig): number {
  if (multimodal === undefined) return 0;
  const tileArea = multimodal.vision.imageSize ** 2;
  const tiles = multimodal.gridPinpoints.map(([h, w]) => Math.ceil((h * w) / tileArea));
  return 1 + Math.max(...tiles);
}

function pictureBytes(config: ModelConfig, limitPixels: number): number {
  const { multimodal, decoder } = config;
  if (multimodal === undefined) return 0;
  const { vision } = multimodal;
  const pixels = vision.channels * vision.imageSize ** 2;
  // Features before and after they are arranged; pixels as bytes scaled, on their canvas and cut out.
  const perTile = (pixels + 2 * patchesPerTile(vision) * decoder.hiddenSize) * F32_BYTES;
  return tileLimit(config) * (perTile + 3 * pixels) + decodingBytes(limitPixels);
}

/** @throws VlmExecutorError `MEMORY_BUDGET_EXCEEDED`, saying what is needed and what would help */
export function requireBudget(plan: MemoryPlan, budgetBytes: number | undefined): void {
  if (budgetBytes === undefined || plan.minimumBytes <= budgetBytes) return;
  const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  const activations = plan.runStateBytes + plan.visionStateBytes + plan.scratchBytes;
  throw new VlmExecutorError(
    "MEMORY_BUDGET_EXCEEDED",
    `This model needs ${plan.minimumBytes} bytes (${mebibytes(plan.minimumBytes)}) and the budget is ${budgetBytes} (${mebibytes(budgetBytes)}): ` +
      `${mebibytes(plan.processBytes)} process and code, ${mebibytes(plan.heapBytes)} heap with the tokenizer, ` +
      `${mebibytes(plan.residentBytes)} resident weights, ${mebibytes(plan.kvCacheBytes)} KV cache for ${plan.contextLength} tokens, ` +
      `${mebibytes(activations)} activations for blocks of ${plan.blockTokens}, ${mebibytes(plan.pictureBytes)} for a picture, ${mebibytes(plan.landingBytes + plan.readAheadBytes)} landing buffers. ` +
      "Lower contextLength, blockTokens, landingBytes or maxPicturePixels, or raise the budget.",
    { expected: plan.minimumBytes, got: budgetBytes },
  );
}
