import { open, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { NchunkError } from "../errors";

const temporaryName = (file: string): string => `${file}.${process.pid}.tmp`;

function notWritable(file: string, cause: unknown): NchunkError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new NchunkError(
    "INVALID_ARGUMENT",
    `${file} cannot be written: ${reason}. Name a file in a folder that exists and that you may write to.`,
    { cause },
  );
}

/**
 * Finds out whether a file can be written, by making and removing its temporary neighbour: said before minutes of
 * measuring and not after.
 *
 * @throws NchunkError `INVALID_ARGUMENT`
 */
export async function requireWritable(file: string): Promise<void> {
  const existing = await stat(file).catch(() => undefined);
  if (existing && !existing.isFile()) throw notWritable(file, new Error("it is not a file"));
  const temporary = temporaryName(file);
  try {
    await (await open(temporary, "wx")).close();
  } catch (cause) {
    throw notWritable(file, cause);
  }
  await rm(temporary, { force: true });
}

/** Writes under another name and renames, so that a reader never sees half a page. */
export async function writeText(file: string, text: string): Promise<void> {
  const temporary = temporaryName(file);
  try {
    const handle = await open(temporary, "w");
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw notWritable(path.resolve(file), cause);
  }
}
