import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { VlmExecutorError } from "../errors.js";

/** The text of a file in a model directory, or undefined when there is none. */
export async function readOptionalText(
  directory: string,
  name: string,
): Promise<string | undefined> {
  const path = join(directory, name);
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const { code: errno = "EIO" } = cause as NodeJS.ErrnoException;
    if (errno === "ENOENT") return undefined;
    throw new VlmExecutorError("READ_FAILED", `"${path}" cannot be read (${errno}).`, {
      path,
      errno,
      cause,
    });
  }
}

/** A JSON object in a model directory, or undefined when there is no such file. */
export async function readOptionalJson(
  directory: string,
  name: string,
): Promise<Record<string, unknown> | undefined> {
  const text = await readOptionalText(directory, name);
  if (text === undefined) return undefined;
  const path = join(directory, name);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new VlmExecutorError("INVALID_CONFIG", `"${path}" is not valid JSON.`, { path, cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new VlmExecutorError("INVALID_CONFIG", `"${path}" must hold a JSON object.`, { path });
}
