import type { MultimodalConfig } from "../config.js";
import { patchesPerSide, patchesPerTile } from "../config.js";
import { throwIfAborted, VlmExecutorError } from "../errors.js";
import type { ClipInput, PictureInput } from "../vision/encoder.js";
import { bestCanvas, tileLayout } from "../vision/tile-layout.js";
import { decodeImage } from "./decode.js";
import type { DecodeOptions, PictureSource } from "./decode.js";
import type { PixelOptions, ProcessorConfig } from "./processor-config.js";
import { padPicture, resizePicture } from "./resample.js";
import type { Picture } from "./resample.js";

/**
 * How several pictures of one prompt are shown to the model, where the reference knows two ways:
 * - `conversation`: each squared and scaled to one tile, as its chat templates pass the pictures of one conversation
 * - `independent`: each with all its tiles, as a plain call of its processor with a list of pictures does
 *
 * A single picture gets all its tiles either way.
 */
export type ImageGrouping = "conversation" | "independent";

export interface PrepareOptions extends DecodeOptions {
  /** Most tiles of all pictures of one call, where memory is budgeted. */
  readonly maxTiles?: number;
  readonly signal?: AbortSignal;
}

export interface PrepareImagesOptions extends PrepareOptions {
  /** Default `conversation`. */
  readonly grouping?: ImageGrouping;
}

/** A picture ready for the vision tower, and how many tokens stand for it in the prompt. */
export interface PreparedImage extends PictureInput {
  readonly tokenCount: number;
}

/** A clip ready for the vision tower, and how many tokens stand for it in the prompt. */
export interface PreparedVideo extends ClipInput {
  readonly tokenCount: number;
}

const CHANNELS = 3;
const BYTE_VALUES = 256;

/**
 * Decodes pictures, cuts them into tiles and normalises them as the reference's processor does.
 *
 * @param model what the tokens are counted by
 * @returns in the order of `sources`; the arrays are the caller's
 * @throws VlmExecutorError as {@link decodeImage}, and `ABORTED`
 */
export async function prepareImages(
  sources: readonly PictureSource[],
  config: ProcessorConfig,
  model: MultimodalConfig,
  { grouping = "conversation", signal, maxTiles, ...decoding }: PrepareImagesOptions = {},
): Promise<PreparedImage[]> {
  const tiled = sources.length === 1 || grouping === "independent";
  const prepared: PreparedImage[] = [];
  let count = 0;
  for (const source of sources) {
    throwIfAborted(signal);
    const picture = await decodeImage(source, decoding);
    const tiles = tiled
      ? await anyResolutionTiles(picture, config, model, signal)
      : [await squareTile(picture, config.image)];
    count += tiles.length;
    if (maxTiles !== undefined && count > maxTiles) throw tooManyTiles(maxTiles, count);
    const imageSize = [picture.height, picture.width] as const;
    prepared.push({
      pixelValues: normalise(tiles, config.image),
      tiles: tiles.length,
      imageSize,
      tokenCount: imageTokenCount(imageSize, model, tiled),
    });
  }
  return prepared;
}

/** @internal More pictures or frames than a memory budget has room for. */
export function tooManyTiles(maxTiles: number, tiles: number): VlmExecutorError {
  return new VlmExecutorError(
    "MEMORY_BUDGET_EXCEEDED",
    `The prompt's pictures and frames come to ${tiles} tiles and the memory budget has room for ${maxTiles} at a time. Give fewer, append frames one after the other, or open the model without a budget.`,
    { expected: maxTiles, got: tiles },
  );
}

/**
 * Decodes the frames of one clip, scales each to one tile and normalises it. All frames are used: choosing
 * among them is the caller's.
 *
 * @throws VlmExecutorError `INVALID_OPTION` for no frames, as {@link decodeImage}, and `ABORTED`
 */
export async function prepareVideo(
  frames: readonly PictureSource[],
  config: ProcessorConfig,
  model: MultimodalConfig,
  { signal, ...decoding }: PrepareOptions = {},
): Promise<PreparedVideo> {
  if (frames.length === 0) {
    throw new VlmExecutorError("INVALID_OPTION", "A clip needs at least one frame.", {
      expected: "1 frame or more",
      got: 0,
    });
  }
  const { height, width, filter } = config.video;
  const tiles: Picture[] = [];
  for (const frame of frames) {
    throwIfAborted(signal);
    const picture = await decodeImage(frame, decoding);
    tiles.push(await resizePicture(picture, width, height, filter));
  }
  return {
    pixelValues: normalise(tiles, config.video),
    frames: frames.length,
    tokenCount: videoTokenCount(frames.length, model),
  };
}

/**
 * Tokens that stand for a picture: its whole view, and, if it has tiles, their features without padding and
 * a newline per row; else one newline.
 *
 * @param imageSize height and width of the picture itself, in pixels
 */
export function imageTokenCount(
  imageSize: readonly [height: number, width: number],
  model: MultimodalConfig,
  tiled: boolean,
): number {
  const whole = patchesPerTile(model.vision);
  if (!tiled) return whole + 1;
  const { height, width } = tileLayout(imageSize, model);
  return whole + height * (width + 1);
}

/** Tokens that stand for a clip: each frame's features pooled 2x2 (odd sides rounded up), and one newline. */
export function videoTokenCount(frames: number, model: MultimodalConfig): number {
  return frames * Math.ceil(patchesPerSide(model.vision) / 2) ** 2 + 1;
}

/** The whole picture, stretched to one tile, then the tiles of its best canvas, row by row. */
async function anyResolutionTiles(
  picture: Picture,
  config: ProcessorConfig,
  model: MultimodalConfig,
  signal: AbortSignal | undefined,
): Promise<Picture[]> {
  const { height, width, filter } = config.image;
  const canvas = bestCanvas(
    picture.height,
    picture.width,
    config.gridPinpoints ?? model.gridPinpoints,
  );
  const [innerHeight, innerWidth] = sizeOnCanvas(picture, canvas);
  const scaled = await resizePicture(picture, innerWidth, innerHeight, filter);
  const padded = padPicture(scaled, canvas[1], canvas[0]);
  const tiles = [await resizePicture(picture, width, height, filter)];
  for (let top = 0; top < canvas[0]; top += height) {
    throwIfAborted(signal);
    for (let left = 0; left < canvas[1]; left += width) {
      // Canvases are whole tiles wide and high in every known checkpoint; the reference stretches what is not.
      const tile = crop(padded, left, top, width, height);
      tiles.push(await resizePicture(tile, width, height, filter));
    }
  }
  return tiles;
}

/** [height, width] of a picture scaled to fit a canvas, rounded up. */
function sizeOnCanvas(
  { width, height }: Picture,
  [canvasHeight, canvasWidth]: readonly [number, number],
): [number, number] {
  const byWidth = canvasWidth / width;
  const byHeight = canvasHeight / height;
  return byWidth < byHeight
    ? [Math.min(Math.ceil(height * byWidth), canvasHeight), canvasWidth]
    : [canvasHeight, Math.min(Math.ceil(width * byHeight), canvasWidth)];
}

/** The picture centred on a square of the mean colour, then scaled to one tile. */
async function squareTile(picture: Picture, options: PixelOptions): Promise<Picture> {
  const side = Math.max(picture.width, picture.height);
  const [red = 0, green = 0, blue = 0] = options.mean.map((value) => Math.trunc(value * 255));
  const square = padPicture(picture, side, side, [red, green, blue]);
  return resizePicture(square, options.width, options.height, options.filter);
}

function crop(picture: Picture, left: number, top: number, width: number, height: number): Picture {
  const cropWidth = Math.min(width, picture.width - left);
  const cropHeight = Math.min(height, picture.height - top);
  const rgb = new Uint8Array(cropWidth * cropHeight * CHANNELS);
  for (let y = 0; y < cropHeight; y++) {
    const start = ((top + y) * picture.width + left) * CHANNELS;
    rgb.set(picture.rgb.subarray(start, start + cropWidth * CHANNELS), y * cropWidth * CHANNELS);
  }
  return { width: cropWidth, height: cropHeight, rgb };
}

/** Tiles of equal size to [tiles, 3, height, width], with the reference's single-precision steps. */
function normalise(tiles: readonly Picture[], options: PixelOptions): Float32Array {
  const tables = Array.from({ length: CHANNELS }, (_, channel) => valueTable(options, channel));
  const pixels = options.width * options.height;
  const values = new Float32Array(tiles.length * CHANNELS * pixels);
  tiles.forEach(({ rgb }, tile) => {
    for (let channel = 0; channel < CHANNELS; channel++) {
      const table = tables[channel];
      const start = (tile * CHANNELS + channel) * pixels;
      for (let i = 0; i < pixels; i++) values[start + i] = table[rgb[i * CHANNELS + channel]];
    }
  });
  return values;
}

/** What each 8-bit value becomes in one channel. */
function valueTable({ rescaleFactor, normalise }: PixelOptions, channel: number): Float32Array {
  const table = new Float32Array(BYTE_VALUES);
  const { fround } = Math;
  for (let value = 0; value < BYTE_VALUES; value++) {
    if (normalise === undefined) {
      table[value] = fround(value) * fround(rescaleFactor);
      continue;
    }
    // The reference folds the rescaling into mean and std.
    const unscale = fround(1 / rescaleFactor);
    const mean = fround(fround(normalise.mean[channel]) * unscale);
    const std = fround(fround(normalise.std[channel]) * unscale);
    table[value] = fround(fround(value - mean) / std);
  }
  return table;
}
