/** Parsers of what Linux tells in `/proc`. None throws: a line that is not understood is a fact that is missing. */

/** Soft limits of `/proc/self/limits` by name; `Infinity` for "unlimited". */
export function parseLimits(text: string): Map<string, number> {
  const limits = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^(Max .+?)\s{2,}(unlimited|\d+)\s/.exec(line);
    if (match) limits.set(match[1], match[2] === "unlimited" ? Infinity : Number(match[2]));
  }
  return limits;
}

/** `/proc/meminfo`, bytes by name. */
export function parseMeminfo(text: string): Map<string, number> {
  const bytes = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^(\w+(?:\(\w+\))?):\s+(\d+)(\s+kB)?/.exec(line);
    if (match) bytes.set(match[1], Number(match[2]) * (match[3] ? 1024 : 1));
  }
  return bytes;
}

export interface Mount {
  /** Device number, "major:minor". */
  readonly device: string;
  /** The folder of the file system that is mounted. */
  readonly root: string;
  readonly mountPoint: string;
  readonly options: string;
  readonly fileSystem: string;
  readonly source: string;
  readonly superOptions: string;
}

/** The kernel writes blanks and backslashes in paths as octal numbers. */
const unescapePath = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));

/** `/proc/self/mountinfo`, in the order of mounting (proc(5)). */
export function parseMountinfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split("\n")) {
    const fields = line.split(" ");
    // Optional fields stand between the sixth and the separator.
    const separator = fields.indexOf("-", 6);
    if (separator < 0 || fields.length < separator + 3) continue;
    mounts.push({
      device: fields[2],
      root: unescapePath(fields[3]),
      mountPoint: unescapePath(fields[4]),
      options: fields[5],
      fileSystem: fields[separator + 1],
      source: unescapePath(fields[separator + 2]),
      superOptions: fields[separator + 3] ?? "",
    });
  }
  return mounts;
}

const isUnder = (file: string, folder: string): boolean =>
  folder === "/" || file === folder || file.startsWith(`${folder}/`);

/** The mount that a path without symbolic links lies on: the deepest one, and of those the latest. */
export function mountOf(mounts: readonly Mount[], file: string): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of mounts) {
    if (!isUnder(file, mount.mountPoint)) continue;
    if (!found || mount.mountPoint.length >= found.mountPoint.length) found = mount;
  }
  return found;
}

export interface CpuInfo {
  readonly model?: string;
  readonly features: ReadonlySet<string>;
}

/** `/proc/cpuinfo`: x86 has "flags" and "model name", aarch64 "Features" and at best "Model" at the end. */
export function parseCpuinfo(text: string): CpuInfo {
  const value = (name: RegExp): string | undefined =>
    new RegExp(`^(?:${name.source})[ \\t]*:[ \\t]*(.+)$`, "m").exec(text)?.[1].trim();
  const model = value(/model name/) ?? value(/Model/) ?? value(/Hardware/) ?? armPart(text);
  const features = new Set((value(/flags|Features/) ?? "").split(/\s+/).filter(Boolean));
  return { ...(model === undefined ? {} : { model }), features };
}

function armPart(text: string): string | undefined {
  const field = (name: string): string | undefined =>
    new RegExp(`^CPU ${name}[ \\t]*:[ \\t]*(\\S+)`, "m").exec(text)?.[1];
  const [implementer, part] = [field("implementer"), field("part")];
  return implementer && part ? `implementer ${implementer}, part ${part}` : undefined;
}

/** The control group of a process: one path in version 2, one for each controller in version 1. */
export interface CgroupPaths {
  readonly unified?: string;
  readonly byController: ReadonlyMap<string, string>;
}

/** `/proc/self/cgroup` (cgroups(7)). */
export function parseSelfCgroup(text: string): CgroupPaths {
  const byController = new Map<string, string>();
  let unified: string | undefined;
  for (const line of text.split("\n")) {
    const match = /^(\d+):([^:]*):(.*)$/.exec(line);
    if (!match) continue;
    const [, hierarchy, controllers, path] = match;
    if (hierarchy === "0" && controllers === "") unified = path;
    for (const name of controllers.split(",").filter(Boolean)) byController.set(name, path);
  }
  return { ...(unified === undefined ? {} : { unified }), byController };
}

/** From here on a version 1 limit means none: the kernel writes the largest page-aligned number. */
const NO_LIMIT_BYTES = 2 ** 60;

/** `memory.max` or `memory.limit_in_bytes`: bytes, `undefined` for no limit. */
export function parseMemoryLimit(text: string): number | undefined {
  const bytes = /^\d+$/.test(text.trim()) ? Number(text) : undefined;
  return bytes !== undefined && bytes < NO_LIMIT_BYTES ? bytes : undefined;
}

/** `cpu.max`, "QUOTA PERIOD" in microseconds, as a number of cores; `undefined` for no limit. */
export function parseCpuMax(text: string): number | undefined {
  const match = /^(\d+)(?:\s+(\d+))?\s*$/.exec(text);
  return match ? cpuQuota(Number(match[1]), Number(match[2] ?? 100_000)) : undefined;
}

/** Cores from a quota and a period in the same unit; a quota of -1 is version 1's "no limit". */
export function cpuQuota(quota: number, period: number): number | undefined {
  return quota > 0 && period > 0 ? quota / period : undefined;
}
