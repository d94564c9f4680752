import path from "node:path";
import {
  cpuQuota,
  parseCpuMax,
  parseMemoryLimit,
  parseMountinfo,
  parseSelfCgroup,
  type Mount,
} from "./proc-text";
import type { SystemFiles } from "./system-files";

export interface CgroupLimits {
  /** The lowest memory limit that applies, bytes. */
  readonly memoryBytes?: number;
  /** The lowest share of processor time that applies, cores. */
  readonly cores?: number;
}

/**
 * The folders of a control group, from the process's own up to the top: a limit anywhere on the way applies.
 * In a container the path may be that of the host; what is not mounted then is skipped.
 */
function foldersUp(mount: Mount, groupPath: string): string[] {
  const inside =
    mount.root !== "/" && (groupPath === mount.root || groupPath.startsWith(`${mount.root}/`))
      ? groupPath.slice(mount.root.length)
      : groupPath;
  const folders: string[] = [];
  for (let at = path.join("/", inside); at !== "/"; at = path.dirname(at)) {
    folders.push(path.join(mount.mountPoint, at));
  }
  return [...folders, mount.mountPoint];
}

function lowest(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length > 0 ? Math.min(...known) : undefined;
}

/** Limits of the control groups this process is in, versions 1 and 2 and both at once. */
export async function cgroupLimits(files: SystemFiles): Promise<CgroupLimits> {
  const paths = parseSelfCgroup((await files.text("/proc/self/cgroup")) ?? "");
  const mounts = parseMountinfo((await files.text("/proc/self/mountinfo")) ?? "");
  const memory: (number | undefined)[] = [];
  const cores: (number | undefined)[] = [];
  const number = async (file: string): Promise<number> => Number((await files.text(file)) ?? NaN);
  for (const mount of mounts) {
    if (mount.fileSystem === "cgroup2") {
      for (const folder of foldersUp(mount, paths.unified ?? "/")) {
        memory.push(parseMemoryLimit((await files.text(`${folder}/memory.max`)) ?? ""));
        cores.push(parseCpuMax((await files.text(`${folder}/cpu.max`)) ?? ""));
      }
    }
    if (mount.fileSystem !== "cgroup") continue;
    const controllers = mount.superOptions.split(",");
    if (controllers.includes("memory")) {
      for (const folder of foldersUp(mount, paths.byController.get("memory") ?? "/")) {
        memory.push(parseMemoryLimit((await files.text(`${folder}/memory.limit_in_bytes`)) ?? ""));
      }
    }
    if (controllers.includes("cpu")) {
      for (const folder of foldersUp(mount, paths.byController.get("cpu") ?? "/")) {
        const quota = await number(`${folder}/cpu.cfs_quota_us`);
        cores.push(cpuQuota(quota, await number(`${folder}/cpu.cfs_period_us`)));
      }
    }
  }
  const [memoryBytes, coreShare] = [lowest(memory), lowest(cores)];
  return {
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...(coreShare === undefined ? {} : { cores: coreShare }),
  };
}
