import { RunState } from "./decoder.js";
import { throwIfAborted, VlmExecutorError } from "./errors.js";
import { KvCache } from "./kv-cache.js";
import type { ImageGrouping, PictureSource } from "./inputs/index.js";
import { encodePixels, InputBlocks, runPass } from "./model.js";
import type { Model, ModelInput, PixelInput } from "./model.js";
import { Sampler } from "./sampling.js";
import type { SamplingOptions } from "./sampling.js";
import { StreamingText } from "./streaming-text.js";
import { TraceLog } from "./trace.js";
import type { Phase, StepTrace, TraceTotals } from "./trace.js";

/** Tokens that `generate` stops after unless told otherwise. */
const DEFAULT_MAX_NEW_TOKENS = 256;

export interface CallOptions {
  /** Aborts between and within passes; the session is as before the call then. */
  readonly signal?: AbortSignal;
}

export interface AppendTextOptions extends CallOptions {
  /** Whether the tokenizer adds what it begins a text with; default: at the start of a session only. */
  readonly addSpecialTokens?: boolean;
}

export interface AppendImagesOptions extends CallOptions {
  readonly grouping?: ImageGrouping;
}

export interface AppendFramesOptions extends CallOptions {
  /** Whether the clip ends with these frames; default true. */
  readonly end?: boolean;
}

export interface GenerateOptions extends CallOptions, SamplingOptions {
  /** Default 256. */
  readonly maxNewTokens?: number;
  /** Ids that end the answer, instead of the model's own. */
  readonly stopTokenIds?: readonly number[];
}

/** Why a generation ended: a stop token, `maxNewTokens`, or no room left in the context. */
export type FinishReason = "stop" | "length" | "context";

export interface GeneratedToken {
  readonly id: number;
  /** Text that has become certain with this token: whole characters, perhaps none. */
  readonly text: string;
  /** On the last token only. */
  readonly finishReason?: FinishReason;
}

export interface SessionOptions {
  /** Passes kept in detail in `traces`; default 64. Totals always count all. */
  readonly traceCapacity?: number;
  readonly onStep?: (step: StepTrace) => void;
}

const DEFAULT_TRACE_CAPACITY = 64;

/**
 * One conversation: a KV cache and the activations of a pass. Calls come one after the other. A call that
 * fails or is aborted leaves the session as it was before it (`generate`: as after the last token it
 * gave), ready for the next.
 */
export class Session {
  private readonly cache: KvCache;
  private readonly state: RunState;
  private readonly log: TraceLog;
  /** Logits at the last position of the cache, and room for the next ones. */
  private logits: Float32Array;
  private nextLogits: Float32Array;
  private hasLogits = false;
  /** Generated but not yet in the cache. */
  private pending: number[] = [];
  private lossy = false;
  private busy: string | null = null;
  private closed = false;

  /** Use `VlmExecutor.createSession`. */
  constructor(
    private readonly model: Model,
    { traceCapacity = DEFAULT_TRACE_CAPACITY, onStep }: SessionOptions = {},
  ) {
    this.cache = new KvCache(model.backend, model.config.decoder, model.contextLength);
    this.state = new RunState(model.backend, model.config.decoder, model.blockTokens);
    this.log = new TraceLog(traceCapacity, onStep);
    this.logits = new Float32Array(model.config.decoder.vocabSize);
    this.nextLogits = new Float32Array(model.config.decoder.vocabSize);
  }

  /** Tokens taken in and generated so far. */
  get length(): number {
    return this.cache.length + this.pending.length;
  }

  get contextLength(): number {
    return this.cache.capacityTokens;
  }

  /** `exact` as long as every pass used every row and rounded nothing (`VlmExecutor.rounding`). */
  get accuracy(): "exact" | "lossy" {
    return this.lossy ? "lossy" : "exact";
  }

  /** The last passes in detail, oldest first. */
  get traces(): readonly StepTrace[] {
    return this.log.steps;
  }

  /** Sums over all passes by phase. */
  get totals(): Readonly<Record<Phase, Readonly<TraceTotals>>> {
    return this.log.totals;
  }

  /** Takes in text as it is: no template, and no special tokens but those written in it. */
  async appendText(text: string, options: AppendTextOptions = {}): Promise<void> {
    const { addSpecialTokens = this.length === 0 } = options;
    const ids = this.model.prompting.codec.encode(text, { addSpecialTokens });
    await this.appendTokens(ids, options);
  }

  async appendTokens(ids: ArrayLike<number>, options: CallOptions = {}): Promise<void> {
    await this.append({ tokenIds: Int32Array.from(ids) }, "prefill", options);
  }

  /** Takes in a prompt with its pictures and clips, as `VlmExecutor.prepare` makes them. */
  async appendPrompt(prompt: PixelInput, { signal }: CallOptions = {}): Promise<void> {
    await this.exclusively("appendPrompt", async () => {
      await this.extend(await encodePixels(this.model, prompt, signal), "prefill", signal);
    });
  }

  /** Takes in pictures with nothing around them. */
  async appendImages(
    images: readonly PictureSource[],
    { signal, grouping }: AppendImagesOptions = {},
  ): Promise<void> {
    const { prompting, config } = this.model;
    await this.exclusively("appendImages", async () => {
      const pictures = await prompting.pictures(images, grouping, signal);
      const count = pictures.reduce((sum, picture) => sum + picture.tokenCount, 0);
      this.cache.requireRoom(this.pending.length + count);
      const tokenIds = new Int32Array(count).fill(config.multimodal?.imageTokenId ?? 0);
      const input = await encodePixels(this.model, { tokenIds, pictures }, signal);
      await this.extend(input, "prefill", signal);
    });
  }

  /** As {@link Session.appendImages}, for one picture. */
  async appendImage(image: PictureSource, options: CallOptions = {}): Promise<void> {
    await this.appendImages([image], options);
  }

  /**
   * Takes in frames of a clip, each in passes of its own (frame appending, PAPER.md). A clip may be appended in
   * several calls: `end` says with which it ends, as the model was trained to see a mark there.
   */
  async appendFrames(
    frames: readonly PictureSource[],
    { signal, end = true }: AppendFramesOptions = {},
  ): Promise<void> {
    const { prompting, config } = this.model;
    await this.exclusively("appendFrames", () =>
      this.allOrNothing(async () => {
        const last = frames.length - 1;
        for (const [index, frame] of frames.entries()) {
          const ends = end && index === last;
          const clip = await prompting.clip([frame], signal);
          // The mark at the end is one of them.
          const count = clip.tokenCount - (ends ? 0 : 1);
          this.cache.requireRoom(this.pending.length + count);
          const tokenIds = new Int32Array(count).fill(config.multimodal?.videoTokenId ?? 0);
          const input = await encodePixels(this.model, { tokenIds, clips: [clip] }, signal, ends);
          await this.extend(input, "frames", signal);
        }
      }),
    );
  }

  /**
   * Takes in tokens and features.
   *
   * @throws VlmExecutorError `CONTEXT_FULL`, `IMAGE_REQUIRED`, `PLACEHOLDER_MISMATCH`, `INVALID_OPTION`,
   *   `READ_FAILED`, `SELECTION_FAILED`, `ABORTED`, `BUSY`, `CLOSED`
   */
  async append(input: ModelInput, phase: Phase, { signal }: CallOptions = {}): Promise<void> {
    await this.exclusively("append", () => this.extend(input, phase, signal));
  }

  /**
   * As `append`, with the logits [vocabulary] of every token of `input`.
   */
  async appendForLogits(input: ModelInput, { signal }: CallOptions = {}): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    await this.exclusively("append", async () => {
      if (this.pending.length > 0) {
        await this.extend({ tokenIds: new Int32Array(0) }, "decode", signal);
      }
      await this.extend(input, "prefill", signal, (row) => rows.push(row));
    });
    return rows;
  }

  /** Logits [vocabulary] after the last token taken in; `null` in an empty session. A copy. */
  get lastLogits(): Float32Array | null {
    return this.hasLogits && this.pending.length === 0 ? this.logits.slice() : null;
  }

  /**
   * Continues the text, token by token. The stop token that ends an answer is given (with no text of its own)
   * but does not become part of the session.
   *
   * @throws VlmExecutorError `EMPTY_PROMPT` in an empty session, `CONTEXT_FULL` when not one token more fits,
   *   and what `append` throws
   */
  async *generate(options: GenerateOptions = {}): AsyncGenerator<GeneratedToken, void, void> {
    const { signal, maxNewTokens = DEFAULT_MAX_NEW_TOKENS } = options;
    if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 1) {
      throw new VlmExecutorError("INVALID_OPTION", "maxNewTokens must be a whole number above 0.", {
        expected: "1 or more",
        got: maxNewTokens,
      });
    }
    const sampler = new Sampler(options);
    const stops = new Set(options.stopTokenIds ?? this.model.stopTokenIds);
    const text = new StreamingText((ids) => this.decode(ids));
    this.enter("generate");
    try {
      for (let count = 1; ; count++) {
        throwIfAborted(signal);
        await this.catchUp(signal);
        const id = sampler.sample(this.logits);
        if (stops.has(id)) {
          yield { id, text: text.flush(), finishReason: "stop" };
          return;
        }
        this.pending.push(id);
        const finishReason = this.finishReason(count, maxNewTokens);
        const piece = text.push(id);
        if (finishReason !== undefined) {
          yield { id, text: piece + text.flush(), finishReason };
          return;
        }
        yield { id, text: piece };
      }
    } finally {
      this.busy = null;
    }
  }

  /** Frees the session. Further calls throw `CLOSED`. */
  close(): void {
    this.closed = true;
  }

  private decode(ids: number[]): string {
    const { prompting } = this.model;
    return prompting.hasTokenizer ? prompting.codec.decode(ids) : "";
  }

  private finishReason(count: number, maxNewTokens: number): FinishReason | undefined {
    if (count === maxNewTokens) return "length";
    return this.length >= this.cache.capacityTokens ? "context" : undefined;
  }

  /** Makes `logits` those after the last token, generated ones included. */
  private async catchUp(signal: AbortSignal | undefined): Promise<void> {
    if (this.pending.length > 0) {
      await this.extend({ tokenIds: new Int32Array(0) }, "decode", signal);
    }
    if (!this.hasLogits) {
      throw new VlmExecutorError(
        "EMPTY_PROMPT",
        "There is nothing to continue: append text first.",
      );
    }
    this.cache.requireRoom(1);
  }

  /** Pending tokens and `input` through the decoder, block by block; all of it or nothing. */
  private async extend(
    input: ModelInput,
    phase: Phase,
    signal: AbortSignal | undefined,
    onLogits?: (logits: Float32Array) => void,
  ): Promise<void> {
    const { model, cache, state } = this;
    const tokenIds = Int32Array.from([...this.pending, ...input.tokenIds]);
    if (tokenIds.length === 0) return;
    const blocks = new InputBlocks(model, { ...input, tokenIds }, model.blockTokens);
    cache.requireRoom(tokenIds.length);
    const before = cache.length;
    try {
      for (let first = 0; first < tokenIds.length; first += model.blockTokens) {
        const tokens = Math.min(model.blockTokens, tokenIds.length - first);
        await model.lock.run(async () => {
          state.setRows(tokens);
          blocks.fill(state, first);
          const step = await runPass(model, state, cache, phase, { signal });
          this.lossy ||= step.accuracy === "lossy";
          this.log.add(step);
          if (onLogits === undefined) return;
          for (let row = 0; row < tokens; row++) {
            const logits = new Float32Array(model.config.decoder.vocabSize);
            await model.decoder.logits(state, row, logits);
            onLogits(logits);
          }
        });
        cache.commit(tokens);
      }
      await model.lock.run(() => model.decoder.logits(state, state.h.rows - 1, this.nextLogits));
    } catch (cause) {
      cache.rollBackTo(before);
      throw cause;
    }
    [this.logits, this.nextLogits] = [this.nextLogits, this.logits];
    this.hasLogits = true;
    this.pending = [];
  }

  /** Several passes that count only if all succeed. */
  private async allOrNothing(task: () => Promise<void>): Promise<void> {
    const { pending, hasLogits } = this;
    const length = this.cache.length;
    const logits = this.logits.slice();
    try {
      await task();
    } catch (cause) {
      this.cache.rollBackTo(length);
      this.logits.set(logits);
      Object.assign(this, { pending, hasLogits });
      throw cause;
    }
  }

  private async exclusively<T>(what: string, task: () => Promise<T>): Promise<T> {
    this.enter(what);
    try {
      return await task();
    } finally {
      this.busy = null;
    }
  }

  private enter(what: string): void {
    if (this.closed) {
      throw new VlmExecutorError("CLOSED", "This session is closed; create another.");
    }
    if (this.busy !== null) {
      throw new VlmExecutorError(
        "BUSY",
        `This session is still in ${this.busy}; await it (or end its loop) before ${what}, or use a second session.`,
      );
    }
    this.busy = what;
  }
}
