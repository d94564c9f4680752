import { readFile } from "node:fs/promises";
import path from "node:path";
import { NchunkError } from "../errors";

/** One bundled question with its right answer, about one picture or one clip of frames in order. */
export interface DemoQuestion {
  id: string;
  kind: string;
  image?: string;
  frames?: string[];
  prompt: string;
  answer: string;
}

/** Reads the bundled questions; picture paths come back absolute. */
export async function loadQuestions(folder: string): Promise<DemoQuestion[]> {
  const file = path.join(folder, "questions.json");
  let questions: DemoQuestion[];
  try {
    questions = JSON.parse(await readFile(file, "utf8")) as DemoQuestion[];
  } catch (cause) {
    throw new NchunkError(
      "ASSET_MISSING",
      `${file} cannot be read (${(cause as Error).message}). Install nchunk again, or clone the repository anew.`,
      { cause },
    );
  }
  return questions.map((question) => ({
    ...question,
    ...(question.image ? { image: path.join(folder, question.image) } : {}),
    ...(question.frames ? { frames: question.frames.map((name) => path.join(folder, name)) } : {}),
  }));
}

/** An answer is right when it is the expected words, whatever the case and the final stop. */
export function isRight(answer: string, expected: string): boolean {
  const normalise = (text: string): string => text.trim().toLowerCase().replace(/\.$/, "");
  return normalise(answer) === normalise(expected);
}
