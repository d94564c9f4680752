import type { ComputeBackend, Rounding } from "./backend/compute-backend.js";
import type { Pass } from "./chunked-linear.js";
import type { ModelConfig } from "./config.js";
import type { Decoder, RunState } from "./decoder.js";
import { VlmExecutorError } from "./errors.js";
import type { HeapKeeper } from "./heap-keeper.js";
import type { KvCache } from "./kv-cache.js";
import type { PassLock } from "./pass-lock.js";
import type { RowSupply } from "./row-supply.js";
import { nowNs } from "./trace.js";
import type { Phase, ProjectionTrace, StepTrace } from "./trace.js";
import type { Prompting } from "./prompting.js";
import type { Pricing } from "./selection/pricing.js";
import type { CalibratedWeights, SelectionSettings } from "./selection/settings.js";
import type { ClipInput, PictureInput, VisionEncoder } from "./vision/encoder.js";

/** An open model: configuration and weights, without any run state. */
export interface Model {
  readonly config: ModelConfig;
  readonly backend: ComputeBackend;
  /** Of what the backend rounds, what concerns weights stored as this model's are. */
  readonly rounding: readonly Rounding[];
  readonly decoder: Decoder;
  /** Absent in text models. */
  readonly vision: VisionEncoder | undefined;
  readonly prompting: Prompting;
  readonly selection: SelectionSettings;
  /** Present where one price rules the model. */
  readonly pricing: Pricing | undefined;
  readonly contextLength: number;
  readonly blockTokens: number;
  readonly stopTokenIds: ReadonlySet<number>;
  /** Passes of all sessions take turns: they share the landing buffers and the selector. */
  readonly lock: PassLock;
  /** To be abandoned before the image is closed: it may be reading for a pass to come. */
  readonly reads: RowSupply;
  /** Present with a memory budget: asked between steps. */
  readonly heap: HeapKeeper | undefined;
}

/** What the decoder is to take in: token ids, and the features that stand at placeholder ids. */
export interface ModelInput {
  readonly tokenIds: Int32Array;
  /** [images, each n * hidden], in the order of their placeholders */
  readonly imageFeatures?: readonly Float32Array[];
  readonly clipFeatures?: readonly Float32Array[];
}

/** Token ids with every placeholder expanded, and the pixels that belong to them. */
export interface PixelInput {
  readonly tokenIds: ArrayLike<number>;
  readonly pictures?: readonly PictureInput[];
  readonly clips?: readonly ClipInput[];
}

/**
 * Runs the vision tower over pictures and clips.
 *
 * @throws VlmExecutorError `IMAGES_UNSUPPORTED`, `WRONG_SHAPE`, `ABORTED`
 */
export async function encodePixels(
  model: Model,
  { tokenIds, pictures = [], clips = [] }: PixelInput,
  signal?: AbortSignal,
  endClips = true,
): Promise<ModelInput> {
  const ids = Int32Array.from(tokenIds);
  if (pictures.length + clips.length === 0) return { tokenIds: ids };
  const { vision, lock, config } = model;
  if (vision === undefined) {
    throw new VlmExecutorError(
      "IMAGES_UNSUPPORTED",
      `${config.architecture} is a text model and cannot look at pictures.`,
      { got: pictures.length + clips.length },
    );
  }
  const imageFeatures: Float32Array[] = [];
  const clipFeatures: Float32Array[] = [];
  await lock.run(async () => {
    for (const picture of pictures) {
      imageFeatures.push(await vision.encodePicture(picture, signal));
    }
    for (const clip of clips) clipFeatures.push(await vision.encodeFrames(clip, endClips, signal));
  });
  model.heap?.check();
  return { tokenIds: ids, imageFeatures, clipFeatures };
}

/** Decoder inputs of consecutive blocks: embeddings, with features in place of placeholders. */
export class InputBlocks {
  private readonly images: FeatureRows;
  private readonly clips: FeatureRows;
  /** Placeholder ids may lie beyond the embedding table; they are looked up as this id and then replaced. */
  private static readonly ANY_ID = 0;
  private readonly lookedUp: Int32Array;

  /**
   * @throws VlmExecutorError `INVALID_OPTION` for ids outside the vocabulary, `IMAGE_REQUIRED` for placeholders
   *   without features, `PLACEHOLDER_MISMATCH` where their numbers differ
   */
  constructor(
    private readonly model: Model,
    private readonly input: ModelInput,
    blockTokens: number,
  ) {
    const { multimodal, decoder } = model.config;
    this.images = new FeatureRows(input.imageFeatures ?? [], decoder.hiddenSize);
    this.clips = new FeatureRows(input.clipFeatures ?? [], decoder.hiddenSize);
    this.lookedUp = new Int32Array(Math.min(blockTokens, input.tokenIds.length));
    const counts = { images: 0, clips: 0 };
    for (const id of input.tokenIds) {
      if (multimodal !== undefined && id === multimodal.imageTokenId) counts.images += 1;
      else if (multimodal !== undefined && id === multimodal.videoTokenId) counts.clips += 1;
      else if (id < 0 || id >= decoder.vocabSize) {
        throw new VlmExecutorError(
          "INVALID_OPTION",
          `Token id ${id} is outside the vocabulary of ${decoder.vocabSize}.`,
          { expected: decoder.vocabSize, got: id },
        );
      }
    }
    requireMatch("picture", counts.images, this.images.total);
    requireMatch("clip", counts.clips, this.clips.total);
  }

  /** Puts the embeddings of tokens `[first, first + state.h.rows)` into `state.h`. */
  fill(state: RunState, first: number): void {
    const { multimodal } = this.model.config;
    const { backend, decoder } = this.model;
    const rows = state.h.rows;
    const source = (t: number): FeatureRows | null => {
      if (multimodal === undefined) return null;
      const id = this.input.tokenIds[first + t];
      if (id === multimodal.imageTokenId) return this.images;
      return id === multimodal.videoTokenId ? this.clips : null;
    };
    const ids = this.lookedUp.subarray(0, rows);
    for (let t = 0; t < rows; t++) {
      ids[t] = source(t) === null ? this.input.tokenIds[first + t] : InputBlocks.ANY_ID;
    }
    backend.embed(decoder.weights.embedding, ids, state.h);
    for (let t = 0; t < rows; t++) {
      const features = source(t);
      if (features !== null) backend.write(features.next(), state.h, t);
    }
  }
}

/** Rows of several feature arrays, one after the other. */
class FeatureRows {
  readonly total: number;
  private array = 0;
  private row = 0;

  constructor(
    private readonly arrays: readonly Float32Array[],
    private readonly columns: number,
  ) {
    this.total = arrays.reduce((sum, values) => sum + values.length, 0) / columns;
  }

  next(): Float32Array {
    while ((this.row + 1) * this.columns > this.arrays[this.array].length) {
      this.array += 1;
      this.row = 0;
    }
    const start = this.row * this.columns;
    this.row += 1;
    return this.arrays[this.array].subarray(start, start + this.columns);
  }
}

function requireMatch(what: string, placeholders: number, features: number): void {
  if (placeholders === features) return;
  if (features === 0) {
    throw new VlmExecutorError(
      "IMAGE_REQUIRED",
      `The prompt holds ${placeholders} ${what} placeholders, but no ${what} was given.`,
      { expected: placeholders, got: 0 },
    );
  }
  throw new VlmExecutorError(
    "PLACEHOLDER_MISMATCH",
    `The prompt holds ${placeholders} ${what} placeholders and the ${what}s have ${features} features; expand each placeholder to as many tokens as its ${what} has features.`,
    { expected: placeholders, got: features },
  );
}

/** One block of tokens through the decoder; `state.h` holds its embeddings. Not committed to the cache. */
export async function runPass(
  model: Model,
  state: RunState,
  cache: KvCache,
  phase: Phase,
  watch: Pick<Pass, "signal" | "onImportance">,
): Promise<StepTrace> {
  const { selection, pricing, decoder } = model;
  const projections: ProjectionTrace[] = [];
  const terms = pricing?.terms(phase);
  const pass: Pass = { ...watch, projections, terms, phase };
  const startNs = nowNs();
  await decoder.forward(state, cache, pass);
  const isExact =
    model.rounding.length === 0 && projections.every(({ rows, totalRows }) => rows === totalRows);
  const step: StepTrace = {
    phase,
    policy: selection.policy,
    accuracy: isExact ? "exact" : "lossy",
    ...(terms?.kind === "price" ? { pricePerNs: terms.errorPerNs } : {}),
    ...(selection.calibration === undefined
      ? {}
      : { estimatedError: estimatedError(projections, selection.calibration) }),
    tokens: state.h.rows,
    pastTokens: cache.length,
    wallNs: nowNs() - startNs,
    projections,
  };
  pricing?.observe(step);
  model.heap?.check();
  return step;
}

/** Mean over layers of what the lost importance costs a layer's output, by the calibration. */
function estimatedError(
  projections: readonly ProjectionTrace[],
  { weights, layers }: CalibratedWeights,
): number {
  let sum = 0;
  for (const { bundle, importanceKept } of projections) {
    sum += (weights.get(bundle) ?? 0) * (1 - importanceKept);
  }
  return sum / layers;
}
