import type { ModelConfig, MultimodalConfig } from "./config.js";
import { VlmExecutorError } from "./errors.js";
import type { HeapKeeper } from "./heap-keeper.js";
import {
  boundPictureDecoder,
  expandPlaceholders,
  loadChatTemplate,
  loadProcessorConfig,
  loadTokenizer,
  prepareImages,
  prepareVideo,
  renderChat,
  tooManyTiles,
} from "./inputs/index.js";
import type {
  ChatMessage,
  ChatPart,
  ChatTemplate,
  ImageGrouping,
  PictureSource,
  PreparedImage,
  PreparedVideo,
  ProcessorConfig,
  TextCodec,
} from "./inputs/index.js";

/** What a memory budget was planned with. */
interface PictureLimits {
  readonly pictureLimitPixels: number;
  /** Of all pictures and frames of a prompt. */
  readonly tileLimit: number;
}

/** A prompt and what it is about. */
export interface PromptRequest {
  readonly prompt: string;
  /** Pictures: file paths, encoded bytes or decoded pixels. */
  readonly images?: readonly PictureSource[];
  /** Clips, each a list of frames. */
  readonly videos?: readonly (readonly PictureSource[])[];
  /**
   * `true`: the prompt is the user's message, put into the checkpoint's chat template; `false`: the prompt is the
   * model's text as it is, with a placeholder for each picture and clip. Default: `true` if there is a template.
   */
  readonly chat?: boolean;
  /** System message; with `chat` only. */
  readonly system?: string;
  /**
   * How several pictures are shown; see {@link ImageGrouping}. Default as in the reference: `conversation` with
   * `chat`, `independent` for a prompt as it is.
   */
  readonly grouping?: ImageGrouping;
  readonly signal?: AbortSignal;
}

/** Token ids with placeholders expanded, and the pixels that stand in their place. */
export interface PreparedPrompt {
  /** The text the ids encode. */
  readonly text: string;
  readonly tokenIds: Int32Array;
  readonly pictures: readonly PreparedImage[];
  readonly clips: readonly PreparedVideo[];
}

/** Turns text, pictures and clips into model inputs, by the files of one checkpoint. */
export class Prompting {
  private constructor(
    private readonly config: ModelConfig,
    private readonly tokenizer: TextCodec | VlmExecutorError,
    private readonly template: ChatTemplate | undefined,
    private readonly processor: ProcessorConfig | undefined,
    private readonly limits: PictureLimits | undefined,
    private readonly heap: HeapKeeper | undefined,
  ) {}

  /**
   * A missing tokenizer is an error only once text is to be encoded.
   *
   * @param limits what a memory budget has room for
   * @param heap asked once pictures are prepared
   */
  static async load(
    dir: string,
    config: ModelConfig,
    limits?: PictureLimits,
    heap?: HeapKeeper,
  ): Promise<Prompting> {
    if (limits !== undefined) boundPictureDecoder();
    const tokenizer = await loadTokenizer(dir).catch((cause: unknown) => {
      if (cause instanceof VlmExecutorError && cause.code === "TOKENIZER_MISSING") return cause;
      throw cause;
    });
    const special = tokenizer instanceof VlmExecutorError ? {} : tokenizer.specialTokens;
    const template = await loadChatTemplate(dir, special);
    const processor = config.multimodal === undefined ? undefined : await loadProcessorConfig(dir);
    return new Prompting(config, tokenizer, template, processor, limits, heap);
  }

  /** @throws VlmExecutorError `TOKENIZER_MISSING` */
  get codec(): TextCodec {
    if (this.tokenizer instanceof VlmExecutorError) throw this.tokenizer;
    return this.tokenizer;
  }

  get hasTokenizer(): boolean {
    return !(this.tokenizer instanceof VlmExecutorError);
  }

  get hasChatTemplate(): boolean {
    return this.template !== undefined;
  }

  /**
   * @throws VlmExecutorError `IMAGE_REQUIRED`, `PLACEHOLDER_MISMATCH`, `IMAGES_UNSUPPORTED`, `TOKENIZER_MISSING`,
   *   `CHAT_TEMPLATE_MISSING`, `CHAT_TEMPLATE_FAILED`, and what reading pictures throws
   */
  async prepare(request: PromptRequest): Promise<PreparedPrompt> {
    const { images = [], videos = [], chat = this.hasChatTemplate } = request;
    const { grouping = chat ? "conversation" : "independent" } = request;
    const frames = videos.reduce((sum, clip) => sum + clip.length, 0);
    this.requireRoomFor(images.length + frames);
    const pictures = await this.pictures(images, grouping, request.signal);
    this.requireRoomFor(pictures.reduce((sum, { tiles }) => sum + tiles, frames));
    const clips = await this.clips(videos, request.signal);
    const written = chat ? this.render(request) : request.prompt;
    const text = this.expand(written, pictures, clips);
    // A template writes the special tokens itself.
    const tokenIds = Int32Array.from(this.codec.encode(text, { addSpecialTokens: !chat }));
    return { text, tokenIds, pictures, clips };
  }

  async pictures(
    sources: readonly PictureSource[],
    grouping: ImageGrouping = "conversation",
    signal?: AbortSignal,
  ): Promise<PreparedImage[]> {
    if (sources.length === 0) return [];
    const { multimodal, processor } = this.requireVision();
    const options = { grouping, ...this.decoding(), ...(signal === undefined ? {} : { signal }) };
    const prepared = await prepareImages(sources, processor, multimodal, options);
    this.heap?.check();
    return prepared;
  }

  async clips(
    videos: readonly (readonly PictureSource[])[],
    signal?: AbortSignal,
  ): Promise<PreparedVideo[]> {
    const clips: PreparedVideo[] = [];
    for (const frames of videos) clips.push(await this.clip(frames, signal));
    return clips;
  }

  async clip(frames: readonly PictureSource[], signal?: AbortSignal): Promise<PreparedVideo> {
    const { multimodal, processor } = this.requireVision();
    this.requireRoomFor(frames.length);
    const options = { ...this.decoding(), ...(signal === undefined ? {} : { signal }) };
    const prepared = await prepareVideo(frames, processor, multimodal, options);
    this.heap?.check();
    return prepared;
  }

  private decoding(): { maxPixels?: number; maxTiles?: number } {
    if (this.limits === undefined) return {};
    const { pictureLimitPixels, tileLimit } = this.limits;
    return { maxPixels: pictureLimitPixels, maxTiles: tileLimit };
  }

  /** @param tiles those of pictures and one for each frame */
  private requireRoomFor(tiles: number): void {
    if (this.limits !== undefined && tiles > this.limits.tileLimit) {
      throw tooManyTiles(this.limits.tileLimit, tiles);
    }
  }

  /** The chat prompt: the pictures, then the question, unless the question says where they belong. */
  private render(request: PromptRequest): string {
    const { prompt, images = [], videos = [], system } = request;
    const messages: ChatMessage[] = [];
    if (this.config.multimodal === undefined) {
      if (system !== undefined) messages.push({ role: "system", content: system });
      messages.push({ role: "user", content: prompt });
      return renderChat(this.template, messages);
    }
    const textPart = (text: string): ChatPart => ({ type: "text", text });
    if (system !== undefined) messages.push({ role: "system", content: [textPart(system)] });
    const parts: ChatPart[] = [];
    if (!this.names(prompt, "imageToken")) parts.push(...images.map(() => IMAGE_PART));
    if (!this.names(prompt, "videoToken")) parts.push(...videos.map(() => VIDEO_PART));
    messages.push({ role: "user", content: [...parts, textPart(prompt)] });
    return renderChat(this.template, messages);
  }

  private names(prompt: string, placeholder: "imageToken" | "videoToken"): boolean {
    return this.processor !== undefined && prompt.includes(this.processor[placeholder]);
  }

  private expand(
    text: string,
    pictures: readonly PreparedImage[],
    clips: readonly PreparedVideo[],
  ): string {
    if (this.processor === undefined) return text;
    return expandPlaceholders(text, this.processor, {
      images: pictures.map((picture) => picture.tokenCount),
      videos: clips.map((clip) => clip.tokenCount),
    });
  }

  private requireVision(): { multimodal: MultimodalConfig; processor: ProcessorConfig } {
    const { multimodal, architecture } = this.config;
    if (multimodal === undefined) {
      throw new VlmExecutorError(
        "IMAGES_UNSUPPORTED",
        `${architecture} is a text model and cannot look at pictures. Ask without them, or open a vision-language model.`,
        { got: architecture },
      );
    }
    if (this.processor === undefined) {
      throw new VlmExecutorError(
        "INVALID_CONFIG",
        "The model directory has neither processor_config.json nor preprocessor_config.json; copy them from the checkpoint and convert again.",
        { expected: ["processor_config.json", "preprocessor_config.json"] },
      );
    }
    return { multimodal, processor: this.processor };
  }
}

const IMAGE_PART: ChatPart = { type: "image" };
const VIDEO_PART: ChatPart = { type: "video" };
