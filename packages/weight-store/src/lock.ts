import { link, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { WeightStoreError } from "./errors.js";
import { parseLine } from "./journal.js";

/** Which process holds a lock; the start time tells a process from a later one with the same number. */
interface LockOwner {
  pid: number;
  startedAt: string;
}

/** Locks taken by this process: its own number in a lock file is stale unless it stands here. */
const heldHere = new Set<string>();
let serial = 0;

/**
 * Takes `path` as a lock against other conversions into the same place; a lock whose process is gone is taken over.
 * @returns A function that releases it.
 * @throws WeightStoreError BUSY while another conversion holds it.
 */
export async function lock(path: string): Promise<() => Promise<void>> {
  if (heldHere.has(path)) throw busy(path, process.pid);
  heldHere.add(path);
  try {
    const owner: LockOwner = { pid: process.pid, startedAt: await startTime(process.pid) };
    const text = JSON.stringify(owner);
    while (!(await create(path, text))) await removeStale(path);
  } catch (error) {
    heldHere.delete(path);
    throw error;
  }
  return async () => {
    await rm(path, { force: true });
    heldHere.delete(path);
  };
}

/** Creates the lock with its content at once, so that nobody sees it without an owner; false when it exists. */
async function create(path: string, text: string): Promise<boolean> {
  const temporary = sibling(path);
  await writeFile(temporary, text);
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    // FAT and some network file systems have no hard links.
    if (code !== "EPERM" && code !== "ENOTSUP" && code !== "ENOSYS") throw error;
    return await createExclusively(path, text);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function createExclusively(path: string, text: string): Promise<boolean> {
  try {
    const file = await open(path, "wx");
    await file.writeFile(text).finally(() => file.close());
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/**
 * Moves a lock without a living owner out of the way. Between the look and the move another process may have done the
 * same and locked again; then the lock that was moved is not the one that was looked at, and is put back.
 */
async function removeStale(path: string): Promise<void> {
  const text = await readIfThere(path);
  if (text === undefined) return;
  const owner = ownerOf(text);
  if (owner !== undefined && (await isAlive(owner))) throw busy(path, owner.pid);
  const moved = sibling(path);
  try {
    await rename(path, moved);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  try {
    if ((await readIfThere(moved)) === text) return;
    await link(moved, path).catch(() => undefined);
    throw busy(path, undefined);
  } finally {
    await rm(moved, { force: true });
  }
}

function sibling(path: string): string {
  return `${path}.${process.pid}.${serial++}`;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function busy(path: string, pid: number | undefined): WeightStoreError {
  return new WeightStoreError(
    "BUSY",
    `Another conversion${pid === undefined ? "" : ` (process ${pid})`} writes this flash image. ` +
      `Wait for it; if there is none, remove ${path}.`,
    { path, got: pid },
  );
}

function ownerOf(text: string): LockOwner | undefined {
  const { pid, startedAt } = parseLine(text) ?? {};
  if (typeof pid !== "number" || typeof startedAt !== "string") return undefined;
  return { pid, startedAt };
}

async function isAlive(owner: LockOwner): Promise<boolean> {
  // Held by this process it would stand in heldHere.
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
