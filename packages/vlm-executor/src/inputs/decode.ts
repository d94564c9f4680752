import { open } from "node:fs/promises";
import type { Stats } from "node:fs";
import type { Metadata, Sharp } from "sharp";
import { VlmExecutorError } from "../errors.js";
import { pictureDecoder, type PictureDecoder } from "./picture-decoder.js";
import type { Picture } from "./resample.js";

/** Most pixels a picture may have: 192 MiB decoded, and more than any phone's main camera by default gives. */
export const MAX_PICTURE_PIXELS = 64 * 1024 * 1024;
/** Most bytes of an encoded file per pixel that is allowed: an uncompressed TIFF of 16-bit pixels. */
const MAX_FILE_BYTES_PER_PIXEL = 6;
/** As sharp names what we read. It calls AVIF "heif"; HEIC, of the same family, its binaries do not read. */
const FORMATS = ["jpeg", "png", "webp", "gif", "tiff", "heif"];
const FORMAT_NAMES = "JPEG, PNG, WebP, GIF, TIFF, AVIF";

export interface DecodeOptions {
  /** Refuse pictures of more pixels (width times height). Default {@link MAX_PICTURE_PIXELS}. */
  readonly maxPixels?: number;
}

/** A file's path, its bytes, or pixels decoded already. */
export type PictureSource = string | Uint8Array | Picture;

/**
 * Decodes a picture as the reference reads a file: turned upright by its EXIF orientation, then RGB as PIL's
 * `convert("RGB")` gives it (alpha dropped, grey repeated, CMYK converted without a colour profile, 16 bits
 * cut to 8, the first frame of an animation). A {@link Picture} is checked and passed through.
 *
 * @throws VlmExecutorError `FILE_NOT_FOUND`, `EMPTY_FILE`, `NOT_AN_IMAGE`, `IMAGE_TOO_LARGE` or `IMAGE_DAMAGED`
 *   (with `path` when the source is a path), `IMAGE_DECODER_UNAVAILABLE`
 */
export async function decodeImage(
  source: PictureSource,
  { maxPixels = MAX_PICTURE_PIXELS }: DecodeOptions = {},
): Promise<Picture> {
  if (typeof source !== "string" && !(source instanceof Uint8Array)) {
    return checkedPixels(source, maxPixels);
  }
  const where = typeof source === "string" ? { path: source } : {};
  const bytes = typeof source === "string" ? await readFile(source, maxPixels) : source;
  if (bytes.length === 0) {
    throw new VlmExecutorError("EMPTY_FILE", `${name(where)} is empty, not a picture.`, where);
  }
  const sharp = await pictureDecoder();
  const metadata = await readMetadata(sharp, bytes, where);
  const pixels = metadata.width * metadata.height;
  if (pixels > maxPixels) {
    throw new VlmExecutorError(
      "IMAGE_TOO_LARGE",
      `${name(where)} has ${metadata.width} x ${metadata.height} pixels; the limit is ${maxPixels} in all. Scale it down first.`,
      { ...where, expected: maxPixels, got: pixels },
    );
  }
  return decodePixels(sharp, bytes, metadata, where);
}

type Where = { readonly path?: string };

const name = ({ path }: Where): string => (path === undefined ? "The picture" : `"${path}"`);

async function readFile(path: string, maxPixels: number): Promise<Uint8Array> {
  const file = await open(path).catch((cause: unknown) => {
    const { code: errno = "EIO" } = cause as NodeJS.ErrnoException;
    const missing = errno === "ENOENT" || errno === "ENOTDIR";
    throw new VlmExecutorError(
      missing ? "FILE_NOT_FOUND" : "READ_FAILED",
      missing ? `There is no picture "${path}".` : `"${path}" cannot be opened (${errno}).`,
      { path, errno, cause },
    );
  });
  try {
    checkFile(path, await file.stat(), MAX_FILE_BYTES_PER_PIXEL * maxPixels);
    return await file.readFile();
  } catch (cause) {
    if (cause instanceof VlmExecutorError) throw cause;
    const { code: errno = "EIO" } = cause as NodeJS.ErrnoException;
    throw new VlmExecutorError("READ_FAILED", `"${path}" cannot be read (${errno}).`, {
      path,
      errno,
      cause,
    });
  } finally {
    await file.close();
  }
}

function checkFile(path: string, stats: Stats, maxBytes: number): void {
  if (!stats.isFile()) {
    throw new VlmExecutorError("NOT_AN_IMAGE", `"${path}" is not a file. Give a picture.`, {
      path,
    });
  }
  if (stats.size > maxBytes) {
    throw new VlmExecutorError(
      "IMAGE_TOO_LARGE",
      `"${path}" has ${stats.size} bytes; the limit for a picture is ${maxBytes}.`,
      { path, expected: maxBytes, got: stats.size },
    );
  }
}

/** Our own pixel limit is checked on the header, before anything is decoded; sharp's would hide the size. */
function openSharp(sharp: PictureDecoder, bytes: Uint8Array): Sharp {
  return sharp(bytes, {
    limitInputPixels: false,
    failOn: "error",
    ignoreIcc: true,
    autoOrient: true,
    pages: 1,
  });
}

async function readMetadata(
  sharp: PictureDecoder,
  bytes: Uint8Array,
  where: Where,
): Promise<Metadata> {
  const metadata = await openSharp(sharp, bytes)
    .metadata()
    .catch((cause: unknown) => {
      throw notAnImage(where, cause);
    });
  const heic = metadata.compression === "hevc";
  if (heic || !FORMATS.includes(metadata.format)) {
    throw notAnImage(where, undefined, heic ? "heic" : metadata.format);
  }
  return metadata;
}

function notAnImage(where: Where, cause: unknown, got?: string): VlmExecutorError {
  return new VlmExecutorError(
    "NOT_AN_IMAGE",
    `${name(where)} is not a picture in a format that can be read (${FORMAT_NAMES}).`,
    { ...where, expected: FORMAT_NAMES, ...(got === undefined ? {} : { got }), cause },
  );
}

async function decodePixels(
  sharp: PictureDecoder,
  bytes: Uint8Array,
  metadata: Metadata,
  where: Where,
): Promise<Picture> {
  const cmyk = metadata.space === "cmyk";
  const pipeline = openSharp(sharp, bytes);
  const colours = cmyk
    ? pipeline.pipelineColourspace("cmyk").toColourspace("cmyk")
    : pipeline.toColourspace("srgb").removeAlpha();
  const { data, info } = await colours
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true })
    .catch((cause: unknown) => {
      throw new VlmExecutorError(
        "IMAGE_DAMAGED",
        `${name(where)} is truncated or damaged: ${String((cause as Error).message).split("\n")[0]}`,
        { ...where, cause },
      );
    });
  const { width, height, channels } = info;
  const rgb = cmyk ? rgbFromCmyk(data, channels) : rgbFrom(data, channels);
  return { width, height, rgb };
}

function rgbFrom(data: Uint8Array, channels: number): Uint8Array {
  if (channels === 3) return data;
  const pixels = data.length / channels;
  const rgb = new Uint8Array(pixels * 3);
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) rgb[i * 3 + c] = data[i * channels + (channels > 2 ? c : 0)];
  }
  return rgb;
}

/** `(255 - ink) * (255 - black) / 255`, rounded, for each of the three inks. */
function rgbFromCmyk(data: Uint8Array, channels: number): Uint8Array {
  const pixels = data.length / channels;
  const rgb = new Uint8Array(pixels * 3);
  for (let i = 0; i < pixels; i++) {
    const light = 255 - data[i * channels + 3];
    for (let c = 0; c < 3; c++) {
      rgb[i * 3 + c] = light - Math.round((data[i * channels + c] * light) / 255);
    }
  }
  return rgb;
}

function checkedPixels(picture: Picture, maxPixels: number): Picture {
  const { width, height, rgb } = picture;
  const whole =
    Number.isSafeInteger(width) && Number.isSafeInteger(height) && width > 0 && height > 0;
  if (!whole || !(rgb instanceof Uint8Array) || rgb.length !== width * height * 3) {
    throw new VlmExecutorError(
      "NOT_AN_IMAGE",
      `Decoded pictures need a positive width and height and width * height * 3 bytes of RGB; got ${width} x ${height} and ${rgb?.length} bytes.`,
      { expected: whole ? width * height * 3 : "positive integers", got: rgb?.length },
    );
  }
  if (width * height > maxPixels) {
    throw new VlmExecutorError(
      "IMAGE_TOO_LARGE",
      `The picture has ${width} x ${height} pixels; the limit is ${maxPixels} in all.`,
      { expected: maxPixels, got: width * height },
    );
  }
  return picture;
}
