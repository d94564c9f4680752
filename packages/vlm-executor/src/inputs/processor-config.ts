import { ConfigFields } from "../config-fields.js";
import { readOptionalJson } from "./checkpoint-json.js";
import type { ResampleFilter } from "./resample.js";

/** How pixels become a vision tower's input. */
export interface PixelOptions {
  /** Side of a tile or frame in pixels. */
  readonly height: number;
  readonly width: number;
  readonly filter: ResampleFilter;
  /** Multiplied with 8-bit values before normalising; 1 when rescaling is off. */
  readonly rescaleFactor: number;
  /** Per channel, of rescaled values; undefined when normalising is off. */
  readonly normalise?: { readonly mean: readonly number[]; readonly std: readonly number[] };
  /** Per channel, kept also when normalising is off: its colour fills the padding of squared pictures. */
  readonly mean: readonly number[];
}

/** What a checkpoint's processor files say about pictures, clips and their placeholders. */
export interface ProcessorConfig {
  readonly image: PixelOptions;
  /** Canvases [height, width] that pictures are tiled on; undefined: as the model's own config has it. */
  readonly gridPinpoints?: readonly (readonly [number, number])[];
  readonly video: PixelOptions;
  /** Placeholders in prompts. */
  readonly imageToken: string;
  readonly videoToken: string;
}

/** Defaults of the reference's LLaVA-OneVision processors, for fields that their files leave out. */
const DEFAULT_SIDE = 384;
const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD = [0.26862954, 0.26130258, 0.27577711];
/** PIL's numbers of the filters. */
const FILTERS: Readonly<Record<number, ResampleFilter>> = { 2: "bilinear", 3: "bicubic" };
const BICUBIC = 3;

/**
 * Reads the processor files of a model directory, as transformers 5 writes them (one `processor_config.json`
 * holding both processors) or as 4.x did (`preprocessor_config.json`, perhaps `video_preprocessor_config.json`).
 *
 * @returns undefined when the directory has none, as for a text model
 * @throws VlmExecutorError `INVALID_CONFIG` or `UNSUPPORTED_CONFIG` (naming the field)
 */
export async function loadProcessorConfig(directory: string): Promise<ProcessorConfig | undefined> {
  const [combined, image, video] = await Promise.all(
    ["processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"].map(
      (name) => readOptionalJson(directory, name),
    ),
  );
  if (combined === undefined && image === undefined) return undefined;
  const fields = new ConfigFields(combined ?? {}, "processor_config.json");
  const imageFields = fields.has("image_processor")
    ? fields.object("image_processor")
    : new ConfigFields(image ?? {}, "preprocessor_config.json");
  const videoFields = fields.has("video_processor")
    ? fields.object("video_processor")
    : new ConfigFields(video ?? image ?? {}, "video_preprocessor_config.json");
  const gridPinpoints = parseGridPinpoints(imageFields);
  return {
    image: parsePixelOptions(imageFields),
    ...(gridPinpoints === undefined ? {} : { gridPinpoints }),
    video: parsePixelOptions(videoFields),
    imageToken: fields.text("image_token", "<image>"),
    videoToken: fields.text("video_token", "<video>"),
  };
}

function parsePixelOptions(fields: ConfigFields): PixelOptions {
  if (!fields.flag("do_resize", true)) throw fields.unsupported("do_resize", [true]);
  if (fields.flag("do_center_crop", false)) throw fields.unsupported("do_center_crop", [false]);
  const filter = FILTERS[fields.count("resample", BICUBIC, 0)];
  if (filter === undefined) throw fields.unsupported("resample", Object.keys(FILTERS).map(Number));
  const mean = parseChannels(fields, "image_mean", CLIP_MEAN);
  const std = parseChannels(fields, "image_std", CLIP_STD);
  if (std.includes(0)) throw fields.invalid("image_std", "above zero in every channel");
  return {
    ...parseSize(fields),
    filter,
    rescaleFactor: fields.flag("do_rescale", true) ? fields.positive("rescale_factor", 1 / 255) : 1,
    ...(fields.flag("do_normalize", true) ? { normalise: { mean, std } } : {}),
    mean,
  };
}

/** `size`: an object of height and width or of the shortest edge, or a number. Tiles are square either way. */
function parseSize(fields: ConfigFields): { height: number; width: number } {
  if (!fields.has("size")) return { height: DEFAULT_SIDE, width: DEFAULT_SIDE };
  if (typeof fields.raw("size") === "number") {
    const side = fields.count("size", DEFAULT_SIDE);
    return { height: side, width: side };
  }
  const size = fields.object("size");
  if (size.has("shortest_edge")) {
    const side = size.count("shortest_edge", DEFAULT_SIDE);
    return { height: side, width: side };
  }
  const height = size.count("height", 0);
  const width = size.count("width", 0);
  if (height !== width) throw fields.unsupported("size", "as high as wide");
  return { height, width };
}

function parseChannels(
  fields: ConfigFields,
  name: string,
  fallback: readonly number[],
): readonly number[] {
  const value = fields.has(name) ? fields.raw(name) : fallback;
  const list: unknown[] = Array.isArray(value) ? value : [value, value, value];
  if (list.length !== 3 || !list.every(Number.isFinite)) {
    throw fields.invalid(name, "a number for each of three channels");
  }
  return list as number[];
}

function parseGridPinpoints(fields: ConfigFields): [number, number][] | undefined {
  if (!fields.has("image_grid_pinpoints")) return undefined;
  const value = fields.raw("image_grid_pinpoints");
  const pair = (entry: unknown) =>
    Array.isArray(entry) &&
    entry.length === 2 &&
    entry.every((side) => Number.isSafeInteger(side) && side > 0);
  if (!Array.isArray(value) || value.length === 0 || !value.every(pair)) {
    throw fields.invalid("image_grid_pinpoints", "a list of [height, width] in pixels");
  }
  return value as [number, number][];
}
