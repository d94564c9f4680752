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

/** Where the kernel's files are, and how groups come and go; another place for tests. */
export interface CgroupPlace {
  /** `/proc/self` */
  readonly self: string;
  /** Makes a group; the kernel puts the files into it. */
  make(folder: string): Promise<unknown>;
  /** Removes a group that no process is in. */
  remove(folder: string): Promise<unknown>;
}

const KERNEL: CgroupPlace = { self: "/proc/self", make: mkdir, remove: rmdir };

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

/**
 * Makes a group below this process's own, so that limits from above keep applying; in version 2, where a group with
 * processes in it cannot have one below, beside it. Never throws.
 */
export async function createMemoryCgroup(place: CgroupPlace = KERNEL): Promise<CgroupResult> {
  const read = (name: string): Promise<string> =>
    readFile(path.join(place.self, name), "utf8").catch(() => "");
  const paths = parseSelfCgroup(await read("cgroup"));
  const mounts = parseMountinfo(await read("mountinfo"));
  const v1 = mounts.find(
    ({ fileSystem, superOptions }) =>
      fileSystem === "cgroup" && superOptions.split(",").includes("memory"),
  );
  const v1Path = paths.byController.get("memory");
  if (v1 !== undefined && v1Path !== undefined) {
    return create({ version: 1, parent: ownFolder(v1, v1Path), place });
  }
  // A mount of folders above this process's namespace does not tell where in them it is.
  const v2 = mounts.find(
    ({ fileSystem, root }) => fileSystem === "cgroup2" && !root.startsWith("/.."),
  );
  if (v2 === undefined || paths.unified === undefined) {
    return { reason: "No memory control group is mounted here." };
  }
  const own = ownFolder(v2, paths.unified);
  const handedDown = await handDownMemory(own);
  if ("undo" in handedDown) {
    return create({ version: 2, parent: own, place, undo: handedDown.undo });
  }
  const above = path.dirname(own);
  if (own !== v2.mountPoint && (await handsDownMemory(above))) {
    return create({ version: 2, parent: above, place });
  }
  return handedDown;
}

const CONTROL = "cgroup.subtree_control";

async function handsDownMemory(group: string): Promise<boolean> {
  const enabled = await readFile(path.join(group, CONTROL), "utf8").catch(() => "");
  return enabled.split(/\s+/).includes("memory");
}

/**
 * Version 2 limits memory only in children of groups that hand the controller down, and a group with processes in it
 * may not (unless it is the root).
 */
async function handDownMemory(
  own: string,
): Promise<{ undo: () => Promise<void> } | { reason: string }> {
  if (await handsDownMemory(own)) return { undo: () => Promise.resolve() };
  const set = (change: string): Promise<void> => writeFile(path.join(own, CONTROL), change);
  return set("+memory").then(
    () => ({ undo: () => set("-memory").catch(() => undefined) }),
    (error: Error) => ({
      reason: `The memory controller cannot be handed down from ${own} (${error.message}). ${ROOT_ADVICE}`,
    }),
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

interface NewGroup {
  readonly version: 1 | 2;
  readonly parent: string;
  readonly place: CgroupPlace;
  /** Takes back what was changed to make the group possible. */
  readonly undo?: () => Promise<void>;
}

async function create({ version, parent, place, undo }: NewGroup): Promise<CgroupResult> {
  const folder = path.join(parent, `nchunk-bench-${process.pid}`);
  const refuse = async (reason: string): Promise<CgroupResult> => {
    await undo?.();
    return { reason };
  };
  try {
    await place.make(folder);
  } catch (error) {
    return refuse(`No control group can be made: ${(error as Error).message}. ${ROOT_ADVICE}`);
  }
  try {
    // Made by the kernel with the folder, where it is a control group and the memory controller is there.
    await readFile(path.join(folder, FILES[version].limit), "utf8");
  } catch (error) {
    await place.remove(folder).catch(() => undefined);
    return refuse(`The control group has no memory limit: ${(error as Error).message}.`);
  }
  return { group: new CgroupFolder(version, folder, place, undo) };
}

/** The kernel frees a dead process's memory a little after it is gone. */
const REMOVE_TRIES = 50;
const REMOVE_WAIT_MS = 40;

class CgroupFolder implements MemoryCgroup {
  private oomKillsBefore = 0;

  constructor(
    readonly version: 1 | 2,
    readonly folder: string,
    private readonly place: CgroupPlace,
    private readonly undo: (() => Promise<void>) | undefined,
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
      // The peak cannot be reset, and the last process's cache stays charged: only a new group has neither.
      await this.removeFolder();
      await this.place.make(this.folder);
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
    await this.removeFolder();
    await this.undo?.();
  }

  private async removeFolder(): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        await this.place.remove(this.folder);
        return;
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
