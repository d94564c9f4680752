import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Fio } from "./fio";

const run = promisify(execFile);

const INSTALL = ["install", "-y", "--no-install-recommends", "fio"];
const INSTALL_LIMIT_MS = 180_000;

export interface FoundFio {
  fio?: Fio;
  /** What the user should know: that it was installed now, or how to get it. */
  note?: string;
}

async function probe(): Promise<Fio | undefined> {
  try {
    const { stdout: version } = await run("fio", ["--version"]);
    const { stdout: engines } = await run("fio", ["--enghelp"]);
    return new Fio(version.trim(), new Set(engines.split(/\s+/)));
  } catch {
    return undefined;
  }
}

async function install(signal: AbortSignal): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const options = { env, signal, timeout: INSTALL_LIMIT_MS };
  try {
    await run("apt-get", INSTALL, options);
  } catch {
    signal.throwIfAborted();
    // A fresh image has no package lists.
    await run("apt-get", ["update"], options);
    await run("apt-get", INSTALL, options);
  }
}

/** fio on the path; installed from the distribution's packages where that is allowed and possible. */
export async function findFio(options: {
  mayInstall: boolean;
  signal: AbortSignal;
}): Promise<FoundFio> {
  const present = await probe();
  if (present) return { fio: present };
  const note =
    "fio is missing, so there is nothing to compare with. Install it: sudo apt-get install -y --no-install-recommends fio";
  if (!options.mayInstall || process.getuid?.() !== 0) return { note };
  try {
    await install(options.signal);
  } catch {
    options.signal.throwIfAborted();
    return { note };
  }
  const installed = await probe();
  return installed ? { fio: installed, note: "fio was installed with apt-get." } : { note };
}
