import type { BackendInfo } from "@neuron-chunking/flash-reader";
import type { ReaderTuning } from "@neuron-chunking/latency-model";
import { openFlashImage } from "@neuron-chunking/weight-store";
import type { BundleInfo, FlashImage } from "@neuron-chunking/weight-store";
import type { Calibration } from "@neuron-chunking/chunk-selector";
import { calibrate, measureCalibration } from "./calibration/measure.js";
import type { CalibrateOptions, MeasureOptions } from "./calibration/measure.js";
import {
  calibratedModel,
  calibrationFor,
  calibrationPath,
  readCalibration,
  requireSameBundles,
  requireSameModel,
} from "./calibration/store.js";
import type { MeasuredCalibration } from "./calibration/typical-inputs.js";
import { CpuBackend } from "./backend/cpu-backend.js";
import type { Arithmetic, ComputeBackend, Rounding } from "./backend/compute-backend.js";
import type { ModelConfig } from "./config.js";
import { throwIfAborted, VlmExecutorError } from "./errors.js";
import { parseModelConfig } from "./families/index.js";
import { requireBudget } from "./memory-plan.js";
import type { MemoryPlan } from "./memory-plan.js";
import { encodePixels } from "./model.js";
import type { Model, PixelInput } from "./model.js";
import { Prompting } from "./prompting.js";
import type { PreparedPrompt, PromptRequest } from "./prompting.js";
import { AnswerStream } from "./ask.js";
import type { AskRequest } from "./ask.js";
import { HeapKeeper } from "./heap-keeper.js";
import { inputFileSizes, loadModel, planModel, readStopTokenIds } from "./open-model.js";
import type { ModelOptions } from "./open-model.js";
import { Session } from "./session.js";
import { badOption } from "./selection/settings.js";
import { requireRowDtypes, weightFormats } from "./weight-dtype.js";
import type { WeightFormat } from "./weight-dtype.js";
import type { CallOptions, SessionOptions } from "./session.js";

export interface OpenOptions extends ModelOptions {
  /** Compute threads of the process; default: the kernels' own choice. */
  readonly threads?: number;
  /** How to drive the disk, over what `profile` measured. */
  readonly readTuning?: Partial<ReaderTuning>;
  /** `required`, `optional` (the default) or `disabled`: whether reads bypass the page cache. */
  readonly directIo?: "required" | "optional" | "disabled";
  /**
   * `f32`, the default: products of operands as they are. `reduced`: operands may be rounded where this machine has a faster product
   * for it, and answers are `lossy` then; {@link VlmExecutor.rounding} tells what is rounded. Not with a `backend`.
   */
  readonly arithmetic?: Arithmetic;
  /** Another implementation of the arithmetic than this machine's cores. */
  readonly backend?: ComputeBackend;
  readonly signal?: AbortSignal;
  /** Bytes of resident weights loaded so far and in all. */
  readonly onProgress?: (bytesDone: number, bytesTotal: number) => void;
}

/** Most bytes of logits handed out at once under a memory budget: what becomes of them counts several times as much. */
const ALL_LOGITS_BYTES = 2 * 2 ** 20;

/** A prompt in token ids and pixels, as `prepare` makes it. */
export interface LogitsRequest extends PixelInput, CallOptions {
  /** Logits of every position; default: of the last. */
  readonly all?: boolean;
}

export interface LogitsResult {
  readonly tokenIds: number[];
  readonly vocabSize: number;
  /** [positions][vocabulary] */
  readonly logits: Float32Array[];
  readonly policy: string;
  readonly accuracy: "exact" | "lossy";
}

/**
 * An open model: its resident weights in memory, its decoder weights on flash. Make sessions from it, and close
 * it when done.
 */
export class VlmExecutor {
  private closed = false;

  private constructor(
    private readonly image: FlashImage,
    private readonly model: Model,
    private readonly memory: MemoryPlan,
  ) {}

  /**
   * Opens a flash image (made by weight-store's `convertCheckpoint`).
   *
   * @throws VlmExecutorError `UNSUPPORTED_ARCHITECTURE`, `UNSUPPORTED_CONFIG`, `INVALID_CONFIG`, `INVALID_OPTION`,
   *   `MEMORY_BUDGET_EXCEEDED`, `MISSING_TENSOR`, `WRONG_SHAPE`, `KERNELS_UNAVAILABLE`, `CALIBRATION_MISSING`,
   *   `CALIBRATION_INVALID`, `CALIBRATION_MISMATCH`, `ABORTED`;
   *   WeightStoreError and FlashReaderError where the image itself cannot be opened
   */
  static async open(dir: string, options: OpenOptions = {}): Promise<VlmExecutor> {
    const { signal, onProgress } = options;
    throwIfAborted(signal);
    // Everything that can be refused is, before weights are loaded.
    const { config, memory, calibrated, bundles } = await survey(dir, options);
    requireBudget(memory, options.memoryBudgetBytes);
    const backend = computeBackend(options);
    requireRowDtypes(bundles, backend);
    const stopTokenIds = await readStopTokenIds(dir, config);
    // Parsing takes several times what is kept: weights come after, where it has room.
    const budgeted = options.memoryBudgetBytes !== undefined;
    const heap = budgeted ? heapKeeper(memory) : undefined;
    const prompting = await Prompting.load(dir, config, budgeted ? memory : undefined, heap);
    heap?.settle();
    throwIfAborted(signal);
    const image = await openFlashImage(dir, {
      ...imageOptions(options),
      ...(onProgress === undefined ? {} : { onProgress }),
      ...(signal === undefined ? {} : { signal }),
    }).catch((cause: unknown) => {
      throwIfAborted(signal);
      throw cause;
    });
    try {
      throwIfAborted(signal);
      const inputs = { prompting, stopTokenIds, memory, heap, signal };
      const model = await loadModel(image, config, backend, calibrated, inputs);
      return new VlmExecutor(image, model, memory);
    } catch (cause) {
      await image.close();
      throw cause;
    }
  }

  /** What opening this image would hold in memory and leave on flash, without loading it. */
  static async plan(dir: string, options: OpenOptions = {}): Promise<MemoryPlan> {
    return (await survey(dir, options)).memory;
  }

  get config(): ModelConfig {
    return this.model.config;
  }

  /** Bytes of the process with the open model and one session. */
  plan(): MemoryPlan {
    return this.memory;
  }

  /** How weights are read, and whether past the page cache. */
  get reading(): BackendInfo {
    return this.image.reader.backend;
  }

  /** How the streamed weights are stored, which accuracies are relative to: quantised ones are not the checkpoint's. */
  get weightFormats(): readonly WeightFormat[] {
    return weightFormats(this.image.bundles);
  }

  /** What products round beyond the weights as stored; empty: nothing. */
  get rounding(): readonly Rounding[] {
    return this.model.rounding;
  }

  /** A new, empty conversation. */
  createSession(options: SessionOptions = {}): Session {
    this.requireOpen();
    // Those that were closed make room.
    this.model.heap?.check();
    return new Session(this.model, options);
  }

  /**
   * A prompt as the model takes it: chat template, placeholders, tokens, pixels.
   *
   * @throws VlmExecutorError `IMAGE_REQUIRED`, `PLACEHOLDER_MISMATCH`, `IMAGES_UNSUPPORTED`, `TOKENIZER_MISSING`,
   *   `CHAT_TEMPLATE_MISSING`, `CHAT_TEMPLATE_FAILED`, `NOT_AN_IMAGE`, `IMAGE_TOO_LARGE`, `IMAGE_DAMAGED`, `EMPTY_FILE`,
   *   `FILE_NOT_FOUND`, `ABORTED`
   */
  async prepare(request: PromptRequest): Promise<PreparedPrompt> {
    this.requireOpen();
    return await this.model.prompting.prepare(request);
  }

  /** Pixels for a prompt in token ids whose placeholders are expanded already. @throws as `prepare` */
  async preparePixels(
    request: Pick<PromptRequest, "images" | "videos" | "grouping" | "signal">,
  ): Promise<Pick<PreparedPrompt, "pictures" | "clips">> {
    this.requireOpen();
    const { prompting } = this.model;
    return {
      pictures: await prompting.pictures(request.images ?? [], request.grouping, request.signal),
      clips: await prompting.clips(request.videos ?? [], request.signal),
    };
  }

  /** Asks one question in a session of its own and streams the answer. */
  ask(request: AskRequest): AnswerStream {
    this.requireOpen();
    return new AnswerStream(this.model, request);
  }

  /**
   * Hot-cold row orders from the activations of calibration prompts, for weight-store's
   * `convertCheckpoint({ permutations })`. Every row is used, whatever the policy.
   *
   * @returns by name of the stored matrix: `permutation[stored] = original` input channel
   * @throws VlmExecutorError `EMPTY_PROMPT` without prompts, and what `logits` throws
   */
  async calibrate(
    prompts: Iterable<PixelInput> | AsyncIterable<PixelInput>,
    options: CalibrateOptions = {},
  ): Promise<Record<string, Uint32Array>> {
    this.requireOpen();
    return await calibrate(this.model, this.image.bundles, prompts, options);
  }

  /**
   * Importance statistics, activation frequencies and the weight of lost importance of every stored matrix, from
   * calibration prompts; for the option `calibration`. Every row is used but those under test, whatever the policy.
   * Cost: a pass over all prompts, and, of one block of tokens and the last token of each, one run of a layer
   * for each of its matrices and levels.
   *
   * @throws VlmExecutorError `EMPTY_PROMPT` without prompts, `INVALID_OPTION`, and what `logits` throws
   */
  async measure(
    prompts: Iterable<PixelInput> | AsyncIterable<PixelInput>,
    options: MeasureOptions = {},
  ): Promise<MeasuredCalibration> {
    this.requireOpen();
    const about = calibratedModel(this.image.manifest);
    return await measureCalibration(this.model, this.image.bundles, about, prompts, options);
  }

  /**
   * The model's raw output for a prompt, to compare with other implementations.
   *
   * @throws VlmExecutorError as `Session.append`; `MEMORY_BUDGET_EXCEEDED` for all positions of a long prompt
   */
  async logits(request: LogitsRequest): Promise<LogitsResult> {
    if (request.all === true) this.requireRoomForAll(request.tokenIds.length);
    const call = request.signal === undefined ? {} : { signal: request.signal };
    const session = this.createSession({ traceCapacity: 0 });
    try {
      const input = await encodePixels(this.model, request, request.signal);
      let logits: Float32Array[];
      if (request.all === true) {
        logits = await session.appendForLogits(input, call);
      } else {
        await session.append(input, "prefill", call);
        const last = session.lastLogits;
        logits = last === null ? [] : [last];
      }
      return {
        tokenIds: Array.from(request.tokenIds),
        vocabSize: this.config.decoder.vocabSize,
        logits,
        policy: this.model.selection.policy,
        accuracy: session.accuracy,
      };
    } finally {
      session.close();
    }
  }

  /** Closes the files. Sessions of this executor cannot be used any more. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.model.lock.run(async () => {
      await this.model.reads.abandon();
      await this.image.close();
    });
  }

  private requireRoomForAll(tokens: number): void {
    const bytes = tokens * this.config.decoder.vocabSize * Float32Array.BYTES_PER_ELEMENT;
    if (this.model.heap === undefined || bytes <= ALL_LOGITS_BYTES) return;
    throw new VlmExecutorError(
      "MEMORY_BUDGET_EXCEEDED",
      `The logits of all ${tokens} positions take ${bytes} bytes and a memory budget has room for ${ALL_LOGITS_BYTES}. Ask for the last position, give fewer tokens, or open the model without a budget.`,
      { expected: ALL_LOGITS_BYTES, got: bytes },
    );
  }

  private requireOpen(): void {
    if (!this.closed) return;
    throw new VlmExecutorError("CLOSED", "This executor is closed; open the model again.");
  }
}

/** What there is to know about an image before its weights are loaded. */
async function survey(
  dir: string,
  options: OpenOptions,
): Promise<{
  config: ModelConfig;
  memory: MemoryPlan;
  calibrated: OpenOptions;
  bundles: readonly BundleInfo[];
}> {
  const image = await openFlashImage(dir, { ...imageOptions(options), resident: "lazy" });
  try {
    const config = parseModelConfig(image.config);
    const calibrated = await withCalibration(image, options);
    const memory = planModel(image, config, {
      options: calibrated,
      files: await inputFileSizes(dir),
      calibration: await ownCalibration(image, calibrated),
    });
    return { config, memory, calibrated, bundles: image.bundles };
  } finally {
    await image.close();
  }
}

function heapKeeper(memory: MemoryPlan): HeapKeeper {
  const { processBytes, heapBytes, totalBytes } = memory;
  return new HeapKeeper(heapBytes, totalBytes - processBytes - heapBytes);
}

/** The image's own calibration, if it has one that fits: it tells which rows are worth keeping in memory. */
async function ownCalibration(
  image: FlashImage,
  { memoryBudgetBytes, calibration }: OpenOptions,
): Promise<Calibration | undefined> {
  if (memoryBudgetBytes === undefined || calibration !== undefined) return undefined;
  try {
    const own = await readCalibration(calibrationPath(image.dir));
    requireSameModel(own.model, image.manifest, image.dir);
    return own;
  } catch (cause) {
    // Without one, every row counts alike.
    if (cause instanceof VlmExecutorError && cause.code.startsWith("CALIBRATION_"))
      return undefined;
    throw cause;
  }
}

/** The options with the image's own calibration, where one is needed and none was given. */
async function withCalibration(image: FlashImage, options: OpenOptions): Promise<OpenOptions> {
  const { dir, bundles } = image;
  if (options.sparsities !== undefined) {
    requireSameBundles(new Set(Object.keys(options.sparsities)), bundles, dir);
  }
  const calibration = await calibrationFor(image, options);
  return calibration === undefined ? options : { ...options, calibration };
}

function computeBackend({ backend, threads, arithmetic }: OpenOptions): ComputeBackend {
  if (arithmetic !== undefined && arithmetic !== "f32" && arithmetic !== "reduced") {
    throw badOption("arithmetic", '"f32" or "reduced"', arithmetic);
  }
  if (backend === undefined) return new CpuBackend(threads, arithmetic);
  if (arithmetic === undefined) return backend;
  throw badOption("arithmetic", "left out with a backend, which computes as it does", arithmetic);
}

function imageOptions({ directIo, profile, readTuning }: OpenOptions) {
  return {
    ...(directIo === undefined ? {} : { directIo }),
    tuning: { ...profile?.reader?.tuning, ...readTuning },
  };
}
