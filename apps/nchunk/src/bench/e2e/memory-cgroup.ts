import { mkdir, readFile, rmdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseMountinfo, parseSelfCgroup, type Mount } from "../../doctor/proc-text";

/** A control group of its own for one process at a time, with a limit on the memory it and its page cache take. */
export interface MemoryCgroup {
  readonly folder: string;
  readonly version: 1 | 2;
  /** A process whose number is written here is in the group, with all it starts. */
  readonly procsFile: string;
  /** Sets the limit, swap included, and forgets the peak. The group must be empty. */
  setLimit(bytes: number): Promise<void>;
  /** Most memory since the limit was set, page cache included; undefined where the kernel does not tell. */
  peakBytes(): Promise<number | undefined>;
  /** Processes that were killed for lack of memory. */
  oomKills(): Promise<number>;
  /** Removes the group once its last process is gone. */
  remove(): Promise<void>;
}

/** Where the kernel's files are; another place for tests. */
export interface CgroupPlace {
  /** `/proc/self` */
  readonly self: string;
}

export type CgroupResult =
  | { readonly group: MemoryCgroup; readonly reason?: undefined }
  | { readonly group?: undefined; readonly reason: string };

const ROOT_ADVICE =
  "Run the bench as root, or in a container that owns its memory control group, to compare under a limit.";

/** The folder of this process's group below a mount; a container may see only a part of the path. */
function ownFolder(mount: Mount, groupPath: string): string {
  const isBelow = groupPath === mount.root || groupPath.startsWith(`${mount.root}/`);
  const inside = mount.root !== "/" && isBelow ? groupPath.slice(mount.root.length) : groupPath;
  return path.join(mount.mountPoint, inside);
}

/** Makes a group below this process's own, so that limits from above keep applying. Never throws. */
export async function createMemoryCgroup(
  place: CgroupPlace = { self: "/proc/self" },
): Promise<CgroupResult> {
  const read = (name: string): Promise<string> =>
    readFile(path.join(place.self, name), "utf8").catch(() => "");
  const paths = parseSelfCgroup(await read("cgroup"));
  const mounts = parseMountinfo(await read("mountinfo"));
  const v1 = mounts.find(
    ({ fileSystem, superOptions }) =>
      fileSystem === "cgroup" && superOptions.split(",").includes("memory"),
  );
  const v1Path = paths.byController.get("memory");
  if (v1 !== undefined && v1Path !== undefined) return create(1, ownFolder(v1, v1Path));
  const v2 = mounts.find(({ fileSystem }) => fileSystem === "cgroup2");
  if (v2 === undefined || paths.unified === undefined) {
    return { reason: "No memory control group is mounted here." };
  }
  const own = ownFolder(v2, paths.unified);
  const refused = await enableMemory(own);
  return refused === undefined ? create(2, own) : { reason: refused };
}

/**
 * Version 2 limits memory only in children of groups that hand the controller down, and a group with processes in it
 * may not (unless it is the root).
 */
async function enableMemory(own: string): Promise<string | undefined> {
  const control = path.join(own, "cgroup.subtree_control");
  const enabled = await readFile(control, "utf8").catch(() => "");
  if (enabled.split(/\s+/).includes("memory")) return undefined;
  return writeFile(control, "+memory").then(
    () => undefined,
    (error: Error) =>
      `The memory controller cannot be handed down from ${own} (${error.message}). ${ROOT_ADVICE}`,
  );
}

const FILES = {
  1: {
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    events: "memory.oom_control",
  },
  2: { limit: "memory.max", swap: "memory.swap.max", events: "memory.events" },
} as const;

async function create(version: 1 | 2, parent: string): Promise<CgroupResult> {
  const folder = path.join(parent, `nchunk-bench-${process.pid}`);
  try {
    await mkdir(folder);
  } catch (error) {
    return { reason: `No control group can be made: ${(error as Error).message}. ${ROOT_ADVICE}` };
  }
  try {
    // Made by the kernel with the folder, where it is a control group and the memory controller is there.
    await readFile(path.join(folder, FILES[version].limit), "utf8");
  } catch (error) {
    await rmdir(folder).catch(() => undefined);
    return { reason: `The control group has no memory limit: ${(error as Error).message}.` };
  }
  return { group: new CgroupFolder(version, folder) };
}

/** The kernel frees a dead process's memory a little after it is gone. */
const REMOVE_TRIES = 50;
const REMOVE_WAIT_MS = 40;

class CgroupFolder implements MemoryCgroup {
  private oomKillsBefore = 0;

  constructor(
    readonly version: 1 | 2,
    readonly folder: string,
  ) {}

  get procsFile(): string {
    return path.join(this.folder, "cgroup.procs");
  }

  async setLimit(bytes: number): Promise<void> {
    const { limit, swap } = FILES[this.version];
    const set = (name: string, value: string | number): Promise<void> =>
      writeFile(path.join(this.folder, name), String(value));
    if (this.version === 1) {
      // What is left of the last process's cache goes, and a limit on memory may not exceed that with swap.
      await set("memory.force_empty", 0);
      await set(swap, -1).catch(() => undefined);
      await set(limit, bytes);
      await set(swap, bytes).catch(() => undefined);
      await set("memory.max_usage_in_bytes", 0);
    } else {
      await set(limit, bytes);
      await set(swap, 0).catch(() => undefined);
    }
    this.oomKillsBefore = await this.allOomKills();
  }

  async peakBytes(): Promise<number | undefined> {
    const name = this.version === 1 ? "memory.max_usage_in_bytes" : "memory.peak";
    const text = await readFile(path.join(this.folder, name), "utf8").catch(() => "");
    return /^\d+\s*$/.test(text) ? Number(text) : undefined;
  }

  async oomKills(): Promise<number> {
    return (await this.allOomKills()) - this.oomKillsBefore;
  }

  async remove(): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await rmdir(this.folder);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "ENOENT") return;
        if (code !== "EBUSY" || tries === REMOVE_TRIES) throw error;
        await delay(REMOVE_WAIT_MS);
      }
    }
  }

  private async allOomKills(): Promise<number> {
    const file = path.join(this.folder, FILES[this.version].events);
    const match = /^oom_kill (\d+)$/m.exec(await readFile(file, "utf8").catch(() => ""));
    return match ? Number(match[1]) : 0;
  }
}
