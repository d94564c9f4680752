import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Calibration } from "@neuron-chunking/chunk-selector";
import type { LandingBuffer } from "@neuron-chunking/flash-reader";
import type { FlashImage, ManifestTensor } from "@neuron-chunking/weight-store";
import type { ComputeBackend } from "./backend/compute-backend.js";
import type { Streaming } from "./chunked-linear.js";
import { ConfigFields } from "./config-fields.js";
import { patchesPerTile } from "./config.js";
import type { ModelConfig } from "./config.js";
import { Decoder } from "./decoder.js";
import { VlmExecutorError } from "./errors.js";
import { planMemory } from "./memory-plan.js";
import type { MemoryPlan } from "./memory-plan.js";
import type { HeapKeeper } from "./heap-keeper.js";
import type { Model } from "./model.js";
import {
  loadDecoderWeights,
  loadNewline,
  loadProjectorWeights,
  loadVisionWeights,
  maxStoredRows,
} from "./model-weights.js";
import { PassLock } from "./pass-lock.js";
import { PlanReads } from "./plan-reads.js";
import { LANDING_PARTS, landingCapacityBytes, PlanSlicer } from "./plan-slices.js";
import { Prefetcher } from "./prefetch/prefetcher.js";
import type { Prompting } from "./prompting.js";
import { PrefixPlanner } from "./prefix-plan.js";
import type { InputFileSizes } from "./process-memory.js";
import { loadPrefixes } from "./resident-prefix.js";
import type { ResidentPrefix } from "./resident-prefix.js";
import { RowSupply } from "./row-supply.js";
import type { ReadingAhead } from "./row-supply.js";
import { PolicyRows } from "./selection/policy-rows.js";
import { Pricing } from "./selection/pricing.js";
import { badOption, selectionSettings } from "./selection/settings.js";
import type { SelectionOptions, SelectionSettings } from "./selection/settings.js";
import { VisionEncoder } from "./vision/encoder.js";
import { Projector } from "./vision/projector.js";
import { SiglipTower } from "./vision/siglip.js";
import { roundingOf } from "./weight-dtype.js";

/** Positions a session gets unless told otherwise, if the model was made for as many. */
const DEFAULT_CONTEXT_LENGTH = 8192;
/** Tokens that go through the decoder together. */
const DEFAULT_BLOCK_TOKENS = 256;
/** Pieces of a plan, for each row of the largest matrix: four words and two doubles of a `PlanReads`, and of both kinds mixed. */
const READS_BYTES_PER_ROW = 4 * 4 + 2 * 8;
const MIXED_BYTES_PER_ROW = 3 * 4 + 8;
const DEFAULT_LANDING_BYTES = 64 * 2 ** 20;
/** Rows that stay in memory save more than reading further ahead does (bench e2e at a quarter of the model's size). */
const DEFAULT_LANDING_BYTES_IN_BUDGET = 32 * 2 ** 20;
/** One of the landing buffers of what is read ahead, at least. */
const AHEAD_SLICE_BYTES = 2 ** 18;
/** With smaller landings than this memory is dearer than time. */
const FEWEST_LANDING_BYTES_FOR_AHEAD = 2 ** 20;
/** Workspace of a selector for each row of the largest matrix: `lagrange`, which needs most, was seen to take 168. */
const SELECTOR_BYTES_PER_ROW = 200;
/** Most pixels of a picture that a memory budget has room for, unless told otherwise: 4 million. */
const DEFAULT_PICTURE_PIXELS = 4 * 2 ** 20;

export type PrefetchChoice = "auto" | "always" | "off";

/** How a model runs; everything has a default. */
export interface ModelOptions extends SelectionOptions {
  /** Positions per session; default: the model's own maximum, at most 8192. */
  readonly contextLength?: number;
  /** Tokens that go through the decoder together, with one choice of rows per projection; default 256. */
  readonly blockTokens?: number;
  /** Most memory that weights land in; default 64 MiB, with a budget 32. A model with small matrices takes less. */
  readonly landingBytes?: number;
  /**
   * Whether rows that the last pass used are read before it is known that this one will, while the matrix before is still
   * multiplied. `always`: whatever there is room for (`ReadingAhead`). `auto`, the default under `dense`: there the same, as
   * nothing is read in vain; under other policies where the expected gain is positive and shows in the time of the matrix, which
   * is tried by turns. `off`: the default under other policies, as no gain was measured there. Traces report what was read
   * ahead and what of it was used. It takes about 8 MiB, without which `auto` does where a budget has no room for them, and changes
   * no output.
   */
  readonly prefetch?: PrefetchChoice;
  /**
   * Most memory of the process: everything counts, code and heap included, with one session open. `open` refuses a
   * budget that is too small; what one leaves free holds the hottest rows of each matrix. V8's young generation is kept small then,
   * in the whole process and for good. Default: no budget.
   */
  readonly memoryBudgetBytes?: number;
  /** With a budget: larger pictures (width times height) are refused; default 4 * 2^20. */
  readonly maxPicturePixels?: number;
}

interface Limits {
  readonly contextLength: number;
  readonly blockTokens: number;
  readonly landingBytes: number;
  readonly maxPicturePixels: number;
  readonly prefetch: PrefetchChoice;
}

/** What a plan is made from beside the image. */
interface PlanInputs {
  readonly options: ModelOptions;
  readonly files: InputFileSizes;
  /** For the chance that a row is read, where `options` bring none. */
  readonly calibration: Calibration | undefined;
}

/** The byte account of one open model with one session. @throws VlmExecutorError `INVALID_OPTION` */
export function planModel(image: FlashImage, config: ModelConfig, inputs: PlanInputs): MemoryPlan {
  const { options, files } = inputs;
  const limits = modelLimits(config, options);
  const isAhead = wantsReadAhead(limits, landingCapacity(image, limits.landingBytes));
  const { flash, resident, bundled } = image.manifest;
  const calibration = options.calibration ?? inputs.calibration;
  const planner = new PrefixPlanner(image.bundles, selectionSettings(options), calibration);
  return planMemory({
    config,
    files,
    residentBytes: resident.tensors.reduce((sum, tensor) => sum + inMemoryBytes(tensor), 0),
    streamedBytes: flash.bundles.reduce((sum, b) => sum + b.rows * b.rowBytes, 0),
    contextLength: limits.contextLength,
    blockTokens: limits.blockTokens,
    landingBytes: landingBytes(image, config, limits),
    readAhead: {
      bytes: isAhead ? aheadBytes(image, config) : 0,
      isOptional: limits.prefetch === "auto",
    },
    pictureLimitPixels: limits.maxPicturePixels,
    bundled,
    fillPrefixes: (spareBytes) => planner.fill(spareBytes),
    budgetBytes: options.memoryBudgetBytes,
  });
}

/** As stored; vectors and tables of positions are kept widened to f32 as well. */
function inMemoryBytes({ name, shape, lengthBytes }: ManifestTensor): number {
  const widened = shape.length === 1 || name.endsWith("position_embedding.weight");
  const elements = shape.reduce((product, size) => product * size, 1);
  return lengthBytes + (widened ? elements * Float32Array.BYTES_PER_ELEMENT : 0);
}

/** Landing buffers, pieces of a plan, selectors, each matrix's importance. */
function landingBytes(image: FlashImage, config: ModelConfig, limits: Limits): number {
  const wordBytes = Uint32Array.BYTES_PER_ELEMENT;
  const perRow = READS_BYTES_PER_ROW + 2 * SELECTOR_BYTES_PER_ROW;
  const importance = image.bundles.reduce((sum, { rows }) => sum + rows, 0) * wordBytes;
  const capacity = landingCapacity(image, limits.landingBytes);
  return LANDING_PARTS * capacity + maxStoredRows(config.decoder) * perRow + importance;
}

function wantsReadAhead({ prefetch }: Limits, capacityBytes: number): boolean {
  const isWorth = LANDING_PARTS * capacityBytes >= FEWEST_LANDING_BYTES_FOR_AHEAD;
  return prefetch === "always" || (prefetch === "auto" && isWorth);
}

/** Of two lanes, with the pieces of their plans, and of who foretells. */
function aheadBytes(image: FlashImage, config: ModelConfig): number {
  const perRow = 2 * READS_BYTES_PER_ROW + MIXED_BYTES_PER_ROW;
  const landings = 2 * LANDING_PARTS * aheadCapacity(image);
  return landings + maxStoredRows(config.decoder) * perRow + Prefetcher.bytesFor(image.bundles);
}

function aheadCapacity(image: FlashImage): number {
  const oneRow = Math.max(...image.bundles.map(({ rowBytes }) => rowBytes));
  return Math.max(AHEAD_SLICE_BYTES, oneRow + overheadBytes(image));
}

/** What alignment can add to a chunk at most. */
function overheadBytes(image: FlashImage): number {
  return 2 * image.reader.alignmentBytes;
}

function modelLimits(config: ModelConfig, options: ModelOptions): Limits {
  const fallback = Math.min(config.decoder.maxPositions, DEFAULT_CONTEXT_LENGTH);
  const contextLength = options.contextLength ?? fallback;
  return {
    contextLength: wholeNumber("contextLength", contextLength),
    blockTokens: Math.min(
      wholeNumber("blockTokens", options.blockTokens ?? DEFAULT_BLOCK_TOKENS),
      contextLength,
    ),
    landingBytes: wholeNumber("landingBytes", options.landingBytes ?? defaultLandingBytes(options)),
    maxPicturePixels: wholeNumber(
      "maxPicturePixels",
      options.maxPicturePixels ?? DEFAULT_PICTURE_PIXELS,
    ),
    prefetch: prefetchChoice(options.prefetch ?? defaultPrefetch(options)),
  };
}

function landingCapacity(image: FlashImage, limitBytes: number): number {
  return landingCapacityBytes(image.manifest.flash.bundles, limitBytes, overheadBytes(image));
}

function planReads(
  image: FlashImage,
  backend: ComputeBackend,
  landings: readonly LandingBuffer[],
  maxRows: number,
): PlanReads {
  const { reader } = image;
  const slicer = new PlanSlicer(maxRows, landings[0].capacityBytes, overheadBytes(image));
  return new PlanReads(reader, slicer, landings, backend);
}

function readingAhead(
  image: FlashImage,
  backend: ComputeBackend,
  { policy, table }: SelectionSettings,
  prefetch: PrefetchChoice,
  maxRows: number,
  prefixes: ReadonlyMap<string, ResidentPrefix>,
): ReadingAhead {
  const capacity = aheadCapacity(image);
  const lane = () =>
    planReads(image, backend, image.reader.allocateParts(LANDING_PARTS, capacity), maxRows);
  const prefetcher = new Prefetcher(image.bundles, table, {
    mode: policy === "dense" || prefetch === "always" ? "always" : "auto",
    overheadBytesPerChunk: overheadBytes(image),
  });
  if (policy === "dense") {
    for (const info of image.bundles) prefetcher.expectAll(info, prefixes.get(info.name)?.rows);
  }
  // A landing buffer is at least half full where chunks are cut well (PlanSlicer), so that this always fits.
  return { prefetcher, lanes: [lane(), lane()], laneBytes: (LANDING_PARTS / 2) * capacity };
}

/** What a model is made from beside its image. */
interface LoadInputs {
  readonly prompting: Prompting;
  readonly stopTokenIds: readonly number[];
  readonly memory: MemoryPlan;
  /** Present with a budget. */
  readonly heap: HeapKeeper | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Weights in place, everything made that passes share; the image stays open and belongs to the caller.
 *
 * @throws VlmExecutorError `MISSING_TENSOR`, `WRONG_SHAPE`, `INVALID_OPTION`
 */
export async function loadModel(
  image: FlashImage,
  config: ModelConfig,
  backend: ComputeBackend,
  options: ModelOptions,
  inputs: LoadInputs,
): Promise<Model> {
  const limits = modelLimits(config, options);
  const selection = selectionSettings(options);
  const maxRows = maxStoredRows(config.decoder);
  const capacity = landingCapacity(image, limits.landingBytes);
  const landings = image.reader.allocateParts(LANDING_PARTS, capacity);
  const { readAheadBytes, prefix } = inputs.memory;
  const { bundles } = prefix;
  const prefixes = await loadPrefixes(image, bundles, landings[0], inputs.signal);
  const ahead =
    readAheadBytes > 0
      ? readingAhead(image, backend, selection, limits.prefetch, maxRows, prefixes)
      : undefined;
  const reads = new RowSupply(planReads(image, backend, landings, maxRows), maxRows, ahead);
  const streaming: Streaming = {
    backend,
    rows: new PolicyRows(selection, maxRows),
    table: selection.table,
    reads,
    prefixes,
  };
  const weights = loadDecoderWeights(image, config.decoder, streaming);
  return {
    config,
    backend,
    rounding: roundingOf(backend, image.bundles),
    decoder: new Decoder(backend, config.decoder, weights),
    vision: loadVision(image, config, backend),
    selection,
    pricing: loadPricing(image, selection),
    contextLength: limits.contextLength,
    blockTokens: limits.blockTokens,
    prompting: inputs.prompting,
    stopTokenIds: new Set(inputs.stopTokenIds),
    lock: new PassLock(),
    reads,
    heap: inputs.heap,
  };
}

function loadPricing(
  image: FlashImage,
  { price, calibration, table }: SelectionSettings,
): Pricing | undefined {
  if (price === undefined || calibration === undefined) return undefined;
  return new Pricing(price, calibration, image.bundles, table);
}

function loadVision(
  image: FlashImage,
  { multimodal, decoder }: ModelConfig,
  backend: ComputeBackend,
): VisionEncoder | undefined {
  if (multimodal === undefined) return undefined;
  const { vision, featureLayers } = multimodal;
  const { hiddenSize } = decoder;
  const depth = Math.max(...featureLayers);
  const tower = new SiglipTower(backend, vision, loadVisionWeights(image, backend, vision, depth));
  const projectorWeights = loadProjectorWeights(image, backend, multimodal, hiddenSize);
  const projector = new Projector(backend, projectorWeights, patchesPerTile(vision));
  const newline = loadNewline(image, backend, hiddenSize);
  return new VisionEncoder(backend, multimodal, tower, projector, newline);
}

/** Ids that end a generation: `generation_config.json`'s, else `config.json`'s. */
export async function readStopTokenIds(dir: string, config: ModelConfig): Promise<number[]> {
  const path = join(dir, "generation_config.json");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [...config.stopTokenIds];
    throw cause;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new VlmExecutorError("INVALID_CONFIG", `${path} is not valid JSON.`, { path, cause });
  }
  const ids = new ConfigFields(parsed, "generation_config.json").tokenIds("eos_token_id");
  return ids.length > 0 ? ids : [...config.stopTokenIds];
}

/** Sizes of the files beside the weights that are read whole. */
export async function inputFileSizes(dir: string): Promise<InputFileSizes> {
  const size = async (name: string): Promise<number> =>
    stat(join(dir, name)).then(
      (found) => found.size,
      () => 0,
    );
  return { tokenizerBytes: await size("tokenizer.json") };
}

function defaultLandingBytes({ memoryBudgetBytes }: ModelOptions): number {
  return memoryBudgetBytes === undefined ? DEFAULT_LANDING_BYTES : DEFAULT_LANDING_BYTES_IN_BUDGET;
}

function defaultPrefetch({ policy = "dense" }: ModelOptions): PrefetchChoice {
  return policy === "dense" ? "auto" : "off";
}

function prefetchChoice(value: PrefetchChoice): PrefetchChoice {
  if (["auto", "always", "off"].includes(value)) return value;
  throw badOption("prefetch", '"auto", "always" or "off"', value);
}

function wholeNumber(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw badOption(name, "a whole number above 0", value);
}
