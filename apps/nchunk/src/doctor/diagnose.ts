import { createRequire } from "node:module";
import { realpath, stat, statfs } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { storageOf } from "./block-device";
import { cgroupLimits } from "./cgroup";
import {
  checkCores,
  checkCpu,
  checkFreeSpace,
  checkLimits,
  checkMemory,
  checkMemoryLimit,
  checkNode,
  checkPlatform,
  checkSwap,
} from "./check-machine";
import { checkReading } from "./check-reading";
import { checkStorage } from "./check-storage";
import { fail, ok, type Diagnosis, type Finding } from "./finding";
import { tryIo, type FlashReaderModule } from "./io-trial";
import { parseCpuinfo, parseLimits, parseMeminfo } from "./proc-text";
import { systemFiles, type SystemFiles } from "./system-files";

const READER = { id: "native-reader", title: "Native reader" };
const KERNELS = { id: "native-kernels", title: "Native kernels" };
const PATH = { id: "path", title: "Folder" };
const BUILD_REMEDY = "In a clone of the repository, `npm run setup` builds it.";

interface Loaded<T> {
  readonly module?: T;
  readonly finding: Finding;
}

const requireHere = createRequire(import.meta.url);

/**
 * Loads a package with native parts late, so that one that is missing is a finding. `require`, because a failed
 * `import` of an addon also ends Node.js 20 with an unhandled rejection, caught or not.
 */
function load<T>(named: { id: string; title: string }, packageName: string): Loaded<T> {
  try {
    return { module: requireHere(packageName) as T, finding: ok(named, "loaded") };
  } catch (cause) {
    const cost = "no model can run without it";
    return { finding: fail(named, systemMessage(cause), cost, BUILD_REMEDY) };
  }
}

const systemMessage = (cause: unknown): string =>
  cause instanceof Error ? cause.message : String(cause);

/** Facts of the machine apart from the folder. */
async function checkMachine(files: SystemFiles): Promise<Finding[]> {
  const text = async (file: string): Promise<string> => (await files.text(file)) ?? "";
  const limits = await cgroupLimits(files);
  const meminfo = parseMeminfo(await text("/proc/meminfo"));
  return [
    checkCpu(parseCpuinfo(await text("/proc/cpuinfo")), process.arch),
    checkCores(os.availableParallelism(), limits),
    checkMemory(meminfo),
    checkMemoryLimit(limits),
    checkSwap(meminfo),
    ...checkLimits(parseLimits(await text("/proc/self/limits"))),
  ];
}

/** Facts of the folder: whether it can be used, how it can be read, what lies behind it. */
async function checkFolder(
  folder: string,
  files: SystemFiles,
  reader: FlashReaderModule | undefined,
): Promise<Finding[]> {
  const remedy = "Give a folder on a disk that you may write to, or set NCHUNK_CACHE_DIR to one.";
  const cost = "models, profiles and probe files are kept there";
  const found = await stat(folder).catch((cause: unknown) => systemMessage(cause));
  if (typeof found === "string") return [fail(PATH, `cannot be used: ${found}`, cost, remedy)];
  if (!found.isDirectory()) return [fail(PATH, `${folder} is not a folder`, cost, remedy)];
  const findings: Finding[] = [];
  try {
    const trial = await tryIo(folder, reader);
    findings.push(ok(PATH, `${folder}, writable`));
    if (trial) findings.push(...(await checkReading(trial, files)));
    const space = await statfs(folder).catch(() => undefined);
    if (space) findings.push(checkFreeSpace(space.bavail * space.bsize));
  } catch (cause) {
    findings.push(fail(PATH, `cannot be written: ${systemMessage(cause)}`, cost, remedy));
  }
  const real = await realpath(folder).catch(() => path.resolve(folder));
  findings.push(...checkStorage(await storageOf(files, real, found.dev)));
  return findings;
}

/**
 * Looks at this machine and at the folder where weights would lie. Nothing throws: what cannot be found out is
 * left out or said.
 *
 * @param folder the folder, or the error that stood in the way of making it
 */
export async function diagnose(
  folder: { path: string; error?: Error },
  files: SystemFiles = systemFiles(),
): Promise<Diagnosis> {
  const reader = load<FlashReaderModule>(READER, "@neuron-chunking/flash-reader");
  // The executor loads the reader too: without it there is nothing to learn about the kernels.
  const kernels = reader.module && load(KERNELS, "@neuron-chunking/vlm-executor");
  const remedy = "Set NCHUNK_CACHE_DIR to a folder on a disk that you may write to.";
  const findings = [
    checkPlatform(process.platform, os.release()),
    checkNode(process.versions.node),
    reader.finding,
    ...(kernels ? [kernels.finding] : []),
    ...(folder.error
      ? [
          fail(
            PATH,
            folder.error.message,
            "models, profiles and probe files are kept there",
            remedy,
          ),
        ]
      : await checkFolder(folder.path, files, reader.module)),
    ...(await checkMachine(files)),
  ];
  return { ok: findings.every(({ status }) => status !== "fail"), path: folder.path, findings };
}
