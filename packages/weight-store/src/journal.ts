import { mkdir, open, readFile, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { WeightStoreError } from "./errors.js";
import { isObject } from "./json-fields.js";
import { syncDirectory, writeFully } from "./files.js";

/**
 * The record that lets an interrupted conversion go on: `journal.jsonl` in the unfinished directory. Its first line is
 * the key of the conversion (sources and options), every other line an item whose bytes are on the disk for good, with
 * its SHA-256. A line that was being written when the process died is not followed by a newline, and is dropped.
 */
const JOURNAL_FILE = "journal.jsonl";

export class Journal {
  private readonly completed: Map<string, string>;
  private pending: string[] = [];

  private constructor(
    readonly dir: string,
    private readonly file: FileHandle,
    private endBytes: number,
    completed: Map<string, string>,
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

  /** The hash of an item that is finished and durable, or undefined. */
  finished(item: string): string | undefined {
    return this.completed.get(item);
  }

  /** Notes an item as written; it counts only after the next {@link commit}. */
  note(item: string, sha256: string): void {
    this.pending.push(JSON.stringify({ item, sha256 }));
    this.completed.set(item, sha256);
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
): Promise<{ completed: Map<string, string>; endBytes: number } | undefined> {
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
  const completed = new Map<string, string>();
  for (const line of rest) {
    const { item, sha256 } = line ?? {};
    if (typeof item !== "string" || typeof sha256 !== "string") return undefined;
    completed.set(item, sha256);
  }
  return { completed, endBytes: Buffer.byteLength(lines.join("\n")) };
}

function parseLine(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Which process holds a lock; the start time tells a process from a later one with the same number. */
interface LockOwner {
  pid: number;
  startedAt: string;
}

/** Locks taken by this process: its own number in a lock file is stale unless it stands here. */
const heldHere = new Set<string>();

/**
 * Takes `path` as a lock against other conversions into the same place; a lock whose process is gone is taken over.
 * @returns A function that releases it.
 * @throws WeightStoreError BUSY while another conversion holds it.
 */
export async function lock(path: string): Promise<() => Promise<void>> {
  const owner: LockOwner = { pid: process.pid, startedAt: await startTime(process.pid) };
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      if (heldHere.has(path)) throw busy(path, process.pid);
      const file = await open(path, "wx");
      heldHere.add(path);
      try {
        await writeFully(file, new TextEncoder().encode(JSON.stringify(owner)), 0);
      } finally {
        await file.close();
      }
      return async () => {
        heldHere.delete(path);
        await rm(path, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const holder = await readOwner(path);
      if (holder !== undefined && (await isAlive(holder))) throw busy(path, holder.pid);
      await rm(path, { force: true });
    }
  }
  throw busy(path, undefined);
}

function busy(path: string, pid: number | undefined): WeightStoreError {
  return new WeightStoreError(
    "BUSY",
    `Another conversion${pid === undefined ? "" : ` (process ${pid})`} writes this flash image. ` +
      `Wait for it; if there is none, remove ${path}.`,
    { path, got: pid },
  );
}

async function readOwner(path: string): Promise<LockOwner | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  const owner = parseLine(text);
  const { pid, startedAt } = owner ?? {};
  if (typeof pid !== "number" || typeof startedAt !== "string") return undefined;
  return { pid, startedAt };
}

async function isAlive(owner: LockOwner): Promise<boolean> {
  if (owner.pid === process.pid) return false;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  return (await startTime(owner.pid)) === owner.startedAt;
}

/** Start time of a process in clock ticks since boot, or "" where /proc does not tell. */
async function startTime(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The second field is the command in parentheses and may hold spaces; the start time is the 22nd.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}
