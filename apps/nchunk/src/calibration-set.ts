import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { NchunkError } from "./errors";

/** One prompt of a calibration set. */
export interface CalibrationPrompt {
  prompt: string;
  /** File of the picture it is about. */
  image?: string;
}

/** Lines of a text file, blank ones left out. Throws INVALID_ARGUMENT when there are none. */
async function textLines(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `${file} cannot be read (${(cause as Error).message}). Give a text file with one prompt on each line.`,
      { cause },
    );
  });
  const lines = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (lines.length > 0) return lines;
  throw new NchunkError(
    "INVALID_ARGUMENT",
    `${file} holds no text. Write one prompt on each line, such as those the model will be asked.`,
  );
}

/** Files of a folder by name, hidden ones and folders left out. Throws INVALID_ARGUMENT when there are none. */
async function pictureFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `${folder} cannot be listed (${(cause as Error).message}). Give a folder of pictures.`,
      { cause },
    );
  });
  const files = entries
    .filter((entry) => !entry.isDirectory() && !entry.name.startsWith("."))
    .map(({ name }) => path.join(folder, name))
    .sort();
  if (files.length > 0) return files;
  throw new NchunkError(
    "INVALID_ARGUMENT",
    `${folder} holds no files. Put some pictures there that are like those the model will be asked about.`,
  );
}

/**
 * The prompts of a calibration: the first picture (by name) with the first line, the second with the second, and so
 * on; the shorter list starts over, so that each picture and each line is used.
 */
export async function calibrationSet(
  textFile: string,
  imageFolder: string | undefined,
): Promise<CalibrationPrompt[]> {
  const lines = await textLines(textFile);
  if (imageFolder === undefined) return lines.map((prompt) => ({ prompt }));
  const images = await pictureFiles(imageFolder);
  return Array.from({ length: Math.max(images.length, lines.length) }, (_, i) => ({
    prompt: lines[i % lines.length],
    image: images[i % images.length],
  }));
}
