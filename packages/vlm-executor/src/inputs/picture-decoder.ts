import type SharpFactory from "sharp";
import { VlmExecutorError } from "../errors.js";

export type PictureDecoder = typeof SharpFactory;

let loading: Promise<PictureDecoder> | undefined;
let isBounded = false;

/** From now on, in the whole process: no cache of decoded pictures, one thread per picture. */
export function boundPictureDecoder(): void {
  isBounded = true;
  void loading?.then(bound, () => undefined);
}

function bound(sharp: PictureDecoder): void {
  sharp.cache(false);
  sharp.concurrency(1);
}

/**
 * Loads sharp with the first picture: it takes some 16 MiB, which models without pictures do not need.
 *
 * @throws VlmExecutorError `IMAGE_DECODER_UNAVAILABLE`; the next call tries again
 */
export async function pictureDecoder(): Promise<PictureDecoder> {
  loading ??= import("sharp").then(({ default: sharp }) => {
    if (isBounded) bound(sharp);
    return sharp;
  });
  try {
    return await loading;
  } catch (cause) {
    loading = undefined;
    const [reason] = String((cause as Error).message).split("\n");
    throw new VlmExecutorError(
      "IMAGE_DECODER_UNAVAILABLE",
      `Pictures cannot be decoded, because sharp cannot be loaded here (${reason}). Install it for this platform, or give decoded pixels.`,
      { cause },
    );
  }
}
