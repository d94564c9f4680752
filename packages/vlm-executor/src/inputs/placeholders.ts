import { VlmExecutorError } from "../errors.js";

/** The strings in a prompt that pictures and clips stand for. */
export interface Placeholders {
  readonly imageToken: string;
  readonly videoToken: string;
}

/** Tokens of each picture and of each clip, in the order of their placeholders. */
export interface PlaceholderCounts {
  readonly images?: readonly number[];
  readonly videos?: readonly number[];
}

/**
 * Repeats each placeholder as often as its picture or clip has tokens, as the reference's processor does.
 *
 * @throws VlmExecutorError `IMAGE_REQUIRED` when the prompt has placeholders but nothing was given for them,
 *   `PLACEHOLDER_MISMATCH` when their number and that of the pictures or clips differ
 */
export function expandPlaceholders(
  prompt: string,
  { imageToken, videoToken }: Placeholders,
  { images = [], videos = [] }: PlaceholderCounts,
): string {
  checkCount(prompt, imageToken, images.length, "image");
  checkCount(prompt, videoToken, videos.length, "video");
  const expanded = expandOne(prompt, imageToken, images);
  return expandOne(expanded, videoToken, videos);
}

function checkCount(prompt: string, token: string, given: number, kind: "image" | "video"): void {
  const found = prompt.split(token).length - 1;
  if (found === given) return;
  if (given === 0) {
    throw new VlmExecutorError(
      "IMAGE_REQUIRED",
      `The prompt has ${found} ${token} but no ${kind} was given. Give one for each, or remove the placeholder.`,
      { expected: found, got: given },
    );
  }
  throw new VlmExecutorError(
    "PLACEHOLDER_MISMATCH",
    found === 0
      ? `${given} ${kind}(s) were given but the prompt has no ${token} to put them in.`
      : `The prompt has ${found} ${token} for ${given} ${kind}(s). Each needs exactly one.`,
    { expected: given, got: found },
  );
}

function expandOne(prompt: string, token: string, counts: readonly number[]): string {
  const parts = prompt.split(token);
  return parts.map((part, i) => (i === 0 ? part : token.repeat(counts[i - 1]) + part)).join("");
}
