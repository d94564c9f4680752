import { mkdir, open, readFile, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { isObject } from "./json-fields.js";
import { syncDirectory, writeFully } from "./files.js";
import type { QuantisationError } from "./quantised-row.js";

/**
 * The record that lets an interrupted conversion go on: `journal.jsonl` in the unfinished directory. Its first line is
 * the key of the conversion (sources and options), every other line an item whose bytes are on the disk for good, with
 * its SHA-256 and, where it was quantised, its error. A line that was being written when the process died is not followed by a newline, and is dropped.
 */
const JOURNAL_FILE = "journal.jsonl";

/** What is known of an item once its bytes are written. */
export interface FinishedItem {
  sha256: string;
  /** Of a quantised bundle. */
  error?: QuantisationError;
}

export class Journal {
  private readonly completed: Map<string, FinishedItem>;
  private pending: string[] = [];

  private constructor(
    readonly dir: string,
    private readonly file: FileHandle,
    private endBytes: number,
    completed: Map<string, FinishedItem>,
  ) {
    this.completed = completed;
  }

  /** Opens the unfinished directory `dir`: goes on with it when its key is the same, starts it anew otherwise. */
  static async open(dir: string, key: string): Promise<Journal> {
    const resumed = await readJournal(join(dir, JOURNAL_FILE), key);
    if (resumed === undefined) await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true });
    const file = await open(join(dir, JOURNAL_FILE), resumed === undefined ? "w+" : "r+");
    if (resumed !== undefined) {
      await file.truncate(resumed.endBytes);
      return new Journal(dir, file, resumed.endBytes, resumed.completed);
    }
    const journal = new Journal(dir, file, 0, new Map());
    await journal.append([JSON.stringify({ key })]);
    await syncDirectory(dir);
    return journal;
  }

  /** What an item that is finished and durable came to, or undefined. */
  finished(item: string): FinishedItem | undefined {
    return this.completed.get(item);
  }

  /** Notes an item as written; it counts only after the next {@link commit}. */
  note(item: string, finished: FinishedItem): void {
    this.pending.push(JSON.stringify({ item, ...finished }));
    this.completed.set(item, finished);
  }

  /** Makes the noted items durable. The caller has synced their bytes before. */
  async commit(): Promise<void> {
    if (this.pending.length === 0) return;
    const lines = this.pending;
    this.pending = [];
    await this.append(lines);
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  /** Closes the journal and removes its file: the directory is complete. */
  async finish(): Promise<void> {
    await this.close();
    await rm(join(this.dir, JOURNAL_FILE));
  }

  private async append(lines: readonly string[]): Promise<void> {
    const bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(""));
    await writeFully(this.file, bytes, this.endBytes);
    await this.file.datasync();
    this.endBytes += bytes.length;
  }
}

async function readJournal(
  path: string,
  key: string,
): Promise<{ completed: Map<string, FinishedItem>; endBytes: number } | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
  const [first, ...rest] = lines.filter((line) => line !== "").map(parseLine);
  if (first?.["key"] !== key) return undefined;
  const completed = new Map<string, FinishedItem>();
  for (const line of rest) {
    const { item, sha256, error } = line ?? {};
    if (typeof item !== "string" || typeof sha256 !== "string") return undefined;
    if (error === undefined) completed.set(item, { sha256 });
    else if (isQuantisationError(error)) completed.set(item, { sha256, error });
    else return undefined;
  }
  return { completed, endBytes: Buffer.byteLength(lines.join("\n")) };
}

function isQuantisationError(value: unknown): value is QuantisationError {
  if (!isObject(value)) return false;
  return typeof value["mean"] === "number" && typeof value["worst"] === "number";
}

/** One line of JSON as an object, or undefined. */
export function parseLine(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
