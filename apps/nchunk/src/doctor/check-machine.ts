import { formatBytes } from "../terminal/format";
import type { CgroupLimits } from "./cgroup";
import { fail, ok, warn, type Finding } from "./finding";
import type { CpuInfo } from "./proc-text";

const MIB = 2 ** 20;

/**
 * The bundled demonstration peaks at 265 MB resident (Node.js 20, x86-64, measured with getrusage), Node.js
 * included.
 */
export const DEMO_MEMORY_BYTES = 272 * MIB;
/** With less than this free, a model worth running leaves nothing for anything else. */
const COMFORTABLE_MEMORY_BYTES = 1024 * MIB;
/** The demonstration keeps a probe file, a layer of random rows and a flash image, and asks for room to write them safely. */
export const DEMO_DISK_BYTES = 600 * MIB;
/** Less than this holds no flash image at all: the bundled model's is 14 MiB. */
const LEAST_DISK_BYTES = 32 * MIB;
/** Kernels before 5.12 charge io_uring's rings to the limit on locked memory. */
const LOCKED_MEMORY_BYTES = 8 * MIB;
/** Modules, libraries and a flash image take a few dozen. */
const LEAST_OPEN_FILES = 256;
const LEAST_NODE = 20;

const CPU = { id: "cpu", title: "Processor" };
const CORES = { id: "cores", title: "Cores" };
const MEMORY = { id: "memory", title: "Memory" };
const MEMORY_LIMIT = { id: "memory-limit", title: "Memory limit" };

export function checkPlatform(platform: string, release: string): Finding {
  const named = { id: "platform", title: "System" };
  if (platform === "linux") return ok(named, `Linux ${release}`);
  const cost = "the native reader is written for Linux";
  return fail(named, platform, cost, "Use Linux, in a virtual machine for example.");
}

export function checkNode(version: string): Finding {
  const named = { id: "node", title: "Node.js" };
  if (Number(version.split(".")[0]) >= LEAST_NODE) return ok(named, version);
  return fail(named, version, "libraries of nchunk do not run", `Install ${LEAST_NODE} or newer.`);
}

/** Instruction sets by what the kernels ask for (`native/kernels/src/dispatch.cc`), best first. */
const TARGETS: readonly { name: string; architecture: string; needs: readonly string[] }[] = [
  {
    name: "AVX-512",
    architecture: "x64",
    needs: ["avx2", "fma", "f16c", "bmi1", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl"],
  },
  { name: "AVX2", architecture: "x64", needs: ["avx2", "fma", "f16c", "bmi1", "bmi2"] },
  { name: "NEON", architecture: "arm64", needs: [] },
];

/** Flags worth telling, by the names of `/proc/cpuinfo`; bf16, VNNI and dot products serve where arithmetic may round. */
const TOLD_FLAGS: Readonly<Record<string, readonly string[]>> = {
  x64: ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_bf16", "avx512_vnni", "avx_vnni"],
  arm64: ["asimd", "fphp", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"],
};

/** The processor and the kernels that its flags allow. */
export function checkCpu({ model, features }: CpuInfo, architecture: string): Finding {
  const target = TARGETS.find(
    ({ architecture: needed, needs }) =>
      needed === architecture && needs.every((flag) => features.has(flag)),
  );
  const flags = (TOLD_FLAGS[architecture] ?? []).filter((flag) => features.has(flag));
  const shown = flags.length > 0 ? ` (${flags.join(", ")})` : "";
  const name = model ?? `${architecture}, model not shown`;
  if (target) return ok(CPU, `${name}; ${target.name} kernels${shown}`);
  return warn(
    CPU,
    `${name}; portable kernels${shown}`,
    "arithmetic runs without wide vectors, several times slower by their width (8 or 16 numbers at once with AVX2 or AVX-512)",
    "In a virtual machine, pass the host's processor through (`-cpu host`).",
  );
}

/** Cores that this process may use. `parallelism` obeys affinity, `limits` the control group. */
export function checkCores(parallelism: number, limits: CgroupLimits): Finding {
  const { cores } = limits;
  if (cores !== undefined && cores < parallelism) {
    return warn(
      CORES,
      `${parallelism}, of which a control group grants the time of ${Number(cores.toFixed(2))}`,
      "kernels start a thread for every core and then wait for their share of time",
      `Raise cpu.max, or pass --threads ${Math.max(1, Math.floor(cores))} where a verb has it.`,
    );
  }
  return ok(CORES, String(parallelism));
}

/** Memory of the machine. */
export function checkMemory(meminfo: ReadonlyMap<string, number>): Finding {
  const [total, available] = [meminfo.get("MemTotal"), meminfo.get("MemAvailable")];
  if (available === undefined) return ok(MEMORY, "not shown by this system");
  const value = `${formatBytes(available)} available${total ? ` of ${formatBytes(total)}` : ""}`;
  return judgeMemory(MEMORY, value, available, "Close other programs.");
}

/** The memory limit of the control group, as in a container. */
export function checkMemoryLimit(limits: CgroupLimits): Finding {
  const { memoryBytes } = limits;
  if (memoryBytes === undefined) return ok(MEMORY_LIMIT, "none");
  const remedy = "Raise memory.max (`--memory` of a container).";
  return judgeMemory(MEMORY_LIMIT, formatBytes(memoryBytes), memoryBytes, remedy);
}

function judgeMemory(
  named: { id: string; title: string },
  value: string,
  bytes: number,
  remedy: string,
): Finding {
  const demo = formatBytes(DEMO_MEMORY_BYTES);
  if (bytes < DEMO_MEMORY_BYTES) {
    const cost = `the bundled demonstration needs ${demo} (its measured peak)`;
    return fail(named, value, cost, remedy);
  }
  if (bytes >= COMFORTABLE_MEMORY_BYTES) return ok(named, value);
  return warn(
    named,
    value,
    `the bundled demonstration runs (${demo}, its measured peak); larger models may not, since embeddings, vision tower and KV cache stay in memory`,
    `${remedy} \`nchunk run --memory-budget\` refuses a model that does not fit.`,
  );
}

export function checkSwap(meminfo: ReadonlyMap<string, number>): Finding {
  const total = meminfo.get("SwapTotal");
  const value = total === undefined ? "not shown" : total === 0 ? "none" : formatBytes(total);
  return ok({ id: "swap", title: "Swap" }, value);
}

export function checkFreeSpace(freeBytes: number): Finding {
  const named = { id: "space", title: "Free space" };
  const value = formatBytes(freeBytes);
  const remedy = "Free some, or choose another disk (NCHUNK_CACHE_DIR).";
  if (freeBytes < LEAST_DISK_BYTES) {
    return fail(named, value, "not even the bundled model's flash image fits", remedy);
  }
  if (freeBytes >= DEMO_DISK_BYTES) return ok(named, value);
  const cost = `the first demonstration asks for ${formatBytes(DEMO_DISK_BYTES)}, and each model keeps a copy of its weights`;
  return warn(named, value, cost, remedy);
}

const orUnlimited = (value: number, format: (value: number) => string): string =>
  value === Infinity ? "unlimited" : format(value);

/** Limits of the process that reading can run into. */
export function checkLimits(limits: ReadonlyMap<string, number>): Finding[] {
  const findings: Finding[] = [];
  const locked = limits.get("Max locked memory");
  if (locked !== undefined) {
    const named = { id: "locked-memory", title: "Locked memory" };
    const value = orUnlimited(locked, formatBytes);
    const cost = "kernels before 5.12 charge io_uring's rings to it and may refuse them";
    findings.push(
      locked >= LOCKED_MEMORY_BYTES
        ? ok(named, value)
        : warn(named, value, cost, "Raise `ulimit -l`, if io_uring is refused."),
    );
  }
  const files = limits.get("Max open files");
  if (files !== undefined) {
    const named = { id: "open-files", title: "Open files" };
    const value = orUnlimited(files, String);
    findings.push(
      files >= LEAST_OPEN_FILES
        ? ok(named, value)
        : warn(named, value, "opening a model may fail half-way", "Raise `ulimit -n`."),
    );
  }
  return findings;
}
