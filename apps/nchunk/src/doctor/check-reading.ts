import type { BackendInfo } from "@neuron-chunking/flash-reader";
import { formatBytes } from "../terminal/format";
import { fail, ok, warn, type Finding } from "./finding";
import type { IoTrial, TrialResult } from "./io-trial";
import type { SystemFiles } from "./system-files";

const IO_URING = { id: "io-uring", title: "io_uring" };
const DIRECT_IO = { id: "direct-io", title: "Direct I/O" };
const READING = { id: "reading", title: "Reading back" };

const IO_URING_COST =
  "reads go through a pool of threads: more processor time for each small read, and fewer reads in " +
  "flight at once; how much that is here, `nchunk profile` measures";

const withErrno = (reason: string, errno: string | undefined): string =>
  errno === undefined || reason.includes(errno) ? reason : `${reason} (${errno})`;

/** `kernel.io_uring_disabled`: 1 leaves it to one group and to privileged processes, 2 forbids it. */
function ioUringRemedy(sysctl: string | undefined, errno: string | undefined): string {
  if (sysctl === "1" || sysctl === "2") {
    return `kernel.io_uring_disabled is ${sysctl}; as root, \`sysctl kernel.io_uring_disabled=0\` allows it.`;
  }
  if (errno === "EPERM" || errno === "EACCES") {
    return "A sandbox forbids it: let the container's seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register.";
  }
  if (errno === "ENOMEM") return "Raise the limit on locked memory (`ulimit -l`).";
  if (errno === "ENOSYS") return "Use a kernel with io_uring (5.1 or newer).";
  return "Nothing has to be done; the pool of threads needs no kernel feature.";
}

/** Whether io_uring serves reads of this folder, as a real read showed. */
export function checkIoUring(trial: IoTrial, sysctl: string | undefined): Finding {
  const { ioUring } = trial;
  const chosen = trial.auto.error ? undefined : trial.auto.backend;
  if (!ioUring.error) {
    const isPool = chosen?.name === "pool";
    return ok(IO_URING, isPool ? "works; for this folder the reader prefers its pool" : "works");
  }
  // The ladder's words are shorter than those of the error, which names the trial's file too.
  const refused = chosen?.refused.find(({ tier }) => tier.startsWith("io_uring")) ?? {
    reason: ioUring.error.message,
    errno: ioUring.errno,
  };
  const value = `not available: ${withErrno(refused.reason, refused.errno)}`;
  return warn(IO_URING, value, IO_URING_COST, ioUringRemedy(sysctl, refused.errno));
}

function whyBuffered({ refused }: BackendInfo): string {
  const step = refused.find(({ tier }) => tier === "pool-direct") ?? refused[0];
  return step ? `: ${withErrno(step.reason, step.errno)}` : "";
}

/** Whether reads of this folder pass the page cache, as a real read showed. */
export function checkDirectIo(auto: TrialResult): Finding {
  if (auto.error) return fail(READING, auto.error.message, "weights cannot be read", SEE_PATH);
  if (auto.backend.directIo) {
    return ok(DIRECT_IO, `works, in blocks of ${formatBytes(auto.alignmentBytes)}`);
  }
  return warn(
    DIRECT_IO,
    `not on this file system${whyBuffered(auto.backend)}`,
    "weights pass through the page cache: they push other files out of memory, every byte is copied once " +
      "more, and what a profile measures is partly memory",
    "Keep models on ext4, xfs or another file system with direct I/O (NCHUNK_CACHE_DIR names the folder).",
  );
}

const SEE_PATH =
  "Choose a folder on another file system (NCHUNK_CACHE_DIR), or see the kernel log.";

/** The tier in use and what a real read showed. */
export async function checkReading(trial: IoTrial, files: SystemFiles): Promise<Finding[]> {
  const sysctl = await files.text("/proc/sys/kernel/io_uring_disabled");
  const findings = [checkDirectIo(trial.auto), checkIoUring(trial, sysctl)];
  if (trial.auto.error) return findings;
  const { tier } = trial.auto.backend;
  return [
    ok({ id: "backend", title: "Reader" }, `${tier}, read back what was written`),
    ...findings,
  ];
}
