import path from "node:path";
import { readJson } from "./device-profile";
import { NchunkError } from "./errors";

/** One prompt of a prompts file, about a picture, a clip of frames in order, or nothing. */
export interface Prompt {
  id: string;
  prompt: string;
  image?: string;
  frames?: string[];
  /** The right answer, where the file is there to ask and not just to calibrate. */
  answer?: string;
}

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";
const isOptional = (value: unknown, test: (value: unknown) => boolean): boolean =>
  value === undefined || test(value);

function isPrompt(entry: unknown): entry is Prompt {
  const { id, prompt, image, frames, answer } = (entry ?? {}) as Record<string, unknown>;
  return (
    isOptional(id, isText) &&
    isText(prompt) &&
    isOptional(image, isText) &&
    isOptional(frames, (value) => Array.isArray(value) && value.every(isText)) &&
    isOptional(answer, isText)
  );
}

/**
 * Reads a prompts file: a JSON list of `{ prompt, image?, frames?, answer?, id? }`, picture paths relative to
 * the file; they come back absolute. Throws INVALID_ARGUMENT naming the entry that is wrong.
 */
export async function loadPrompts(file: string): Promise<Prompt[]> {
  const entries = await readJson(file);
  const wrong = Array.isArray(entries) ? entries.findIndex((entry) => !isPrompt(entry)) : 0;
  if (!Array.isArray(entries) || entries.length === 0 || wrong >= 0) {
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `${file} is not a list of prompts (entry ${wrong + 1}). Each needs a "prompt", and may have an "image" ` +
        '(a file) or "frames" (a list of files), and an "answer".',
    );
  }
  const resolve = (name: string): string => path.resolve(path.dirname(file), name);
  return (entries as Prompt[]).map((entry, index) => ({
    ...entry,
    id: entry.id ?? String(index + 1),
    ...(entry.image ? { image: resolve(entry.image) } : {}),
    ...(entry.frames ? { frames: entry.frames.map(resolve) } : {}),
  }));
}

/** The pictures and clips of a prompt as the executor takes them. */
export function visuals({ image, frames }: Prompt): { images?: string[]; videos?: string[][] } {
  return { ...(image ? { images: [image] } : {}), ...(frames ? { videos: [frames] } : {}) };
}
