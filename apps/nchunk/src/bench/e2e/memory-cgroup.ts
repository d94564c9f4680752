import { access, constants, mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
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

const USER_ADVICE =
  "Run the bench as root, or in a group of this user's own: systemd-run --user --scope nchunk bench e2e.";

/** The folder of this process's group below a mount; a container may see only a part of the path. */
function ownFolder(mount: Mount, groupPath: string): string {
  const isBelow = groupPath === mount.root || groupPath.startsWith(`${mount.root}/`);
  const inside = mount.root !== "/" && isBelow ? groupPath.slice(mount.root.length) : groupPath;
  // No slash at the end: it is compared with the mount's own folder.
  return path.join(mount.mountPoint, path.relative("/", path.join("/", inside)));
}

/** What a namespace of control groups shows of those outside of it. */
const isOutside = (groupPath: string): boolean =>
  groupPath === "/.." || groupPath.startsWith("/../");

/**
 * Makes a group below this process's own, so that limits from above keep applying; in version 2, where a group with
 * processes in it cannot have one below, beside it. Never throws.
 */
export async function createMemoryCgroup(place: CgroupPlace = KERNEL): Promise<CgroupResult> {
  const read = (name: string): Promise<string> =>
    readFile(path.join(place.self, name), "utf8").catch(() => "");
  const { byController, unified } = parseSelfCgroup(await read("cgroup"));
  const mounts = parseMountinfo(await read("mountinfo"));
  const v1 = mounts.find(
    ({ fileSystem, superOptions }) =>
      fileSystem === "cgroup" && superOptions.split(",").includes("memory"),
  );
  const v1Path = byController.get("memory");
  if (v1 !== undefined && v1Path !== undefined) {
    return create({ version: 1, parent: ownFolder(v1, v1Path), place });
  }
  const v2 = mounts.filter(({ fileSystem }) => fileSystem === "cgroup2");
  if (v2.length === 0 || unified === undefined) {
    return {
      reason: `No memory control group is mounted here (as root: mount -t cgroup2 cgroup2 /sys/fs/cgroup).`,
    };
  }
  const mount = v2.find(({ root }) => !isOutside(root));
  if (mount === undefined || isOutside(unified)) {
    return {
      reason:
        `The control groups at ${v2[0].mountPoint} are of another namespace than this process's. ` +
        "Start the container with groups of its own, or with those of the host (docker: --cgroupns=host).",
    };
  }
  const own = ownFolder(mount, unified);
  if (own === mount.mountPoint) return createVersion2(own, place);
  // Without the controller here, only the group above tells why.
  const below = (await hasMemory(own)) ? await createVersion2(own, place) : undefined;
  if (below?.group !== undefined) return below;
  const beside = await createVersion2(path.dirname(own), place);
  return beside.group === undefined ? (below ?? beside) : beside;
}

const CONTROL = "cgroup.subtree_control";

async function words(...file: string[]): Promise<string[]> {
  return (await readFile(path.join(...file), "utf8").catch(() => "")).split(/\s+/);
}

async function hasMemory(group: string): Promise<boolean> {
  return (await words(group, "cgroup.controllers")).includes("memory");
}

/** Version 2 limits memory only in children of groups that hand the controller down. */
async function createVersion2(parent: string, place: CgroupPlace): Promise<CgroupResult> {
  if (!(await hasMemory(parent))) {
    return {
      reason:
        `There is no memory controller in ${parent}/cgroup.controllers: a group above does not hand it down, or the ` +
        "kernel was started without it (its command line may need cgroup_enable=memory).",
    };
  }
  const control = (change: string): Promise<void> => writeFile(path.join(parent, CONTROL), change);
  try {
    // A process comes into the group by the leave of the group that both it and its old one are in: this one.
    await access(path.join(parent, "cgroup.procs"), constants.W_OK);
    if ((await words(parent, CONTROL)).includes("memory")) {
      return await create({ version: 2, parent, place });
    }
    await control("+memory");
  } catch (error) {
    return { reason: refusal(parent, error as NodeJS.ErrnoException) };
  }
  return create({
    version: 2,
    parent,
    place,
    // Groups that others have made meanwhile would lose their limits with the controller.
    async undo() {
      const entries = await readdir(parent, { withFileTypes: true }).catch(() => []);
      if (entries.some((entry) => entry.isDirectory())) return;
      await control("-memory").catch(() => undefined);
    },
  });
}

/** Why a group has none below it with a limit, and what to do. */
function refusal(parent: string, { code, message }: NodeJS.ErrnoException): string {
  const said = `The memory controller cannot be handed down from ${parent} (${message}).`;
  if (code === "EBUSY") {
    return (
      `${said} Version 2 does so only where no processes are: make a group ${parent}/all, and write each ` +
      `number in ${parent}/cgroup.procs to ${parent}/all/cgroup.procs.`
    );
  }
  if (code === "EROFS") {
    return `${said} Containers see their groups so by default: start this one with them writable (docker: --privileged).`;
  }
  return `${said} ${USER_ADVICE}`;
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
  try {
    await place.make(folder);
  } catch (error) {
    await undo?.();
    return {
      reason: `No control group can be made: ${(error as Error).message}. ${USER_ADVICE}`,
    };
  }
  const missing = await missingLimit(FILES[version], folder, place);
  if (missing !== undefined) {
    await place.remove(folder).catch(() => undefined);
    await undo?.();
    return { reason: missing };
  }
  return { group: new CgroupFolder(version, folder, place, undo) };
}

/** The kernel makes a group's files with its folder, where it is a control group and the memory controller is there. */
async function missingLimit(
  { limit, swap }: (typeof FILES)[1 | 2],
  folder: string,
  place: CgroupPlace,
): Promise<string | undefined> {
  const problem = (name: string): Promise<string | undefined> =>
    access(path.join(folder, name)).then(
      () => undefined,
      (error: Error) => error.message,
    );
  const noLimit = await problem(limit);
  if (noLimit !== undefined) return `The control group has no memory limit: ${noLimit}.`;
  const noSwapLimit = await problem(swap);
  if (noSwapLimit === undefined) return undefined;
  const swaps = await readFile(path.join(place.self, "../swaps"), "utf8").catch(() => "");
  // Its first line is a heading.
  if (swaps.trim().split("\n").length < 2) return undefined;
  return `What is over the limit would go to swap, which has none here: ${noSwapLimit}. Turn swap off (swapoff -a), or start the kernel with swapaccount=1.`;
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
