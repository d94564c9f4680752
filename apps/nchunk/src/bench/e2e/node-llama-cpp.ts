import { execFile } from "node:child_process";
import { mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The release that is compared with; its prebuilt binaries hold llama.cpp (ggml) v0.5.0. */
export const NODE_LLAMA_CPP_VERSION = "3.22.1";
const INSTALL_TIMEOUT_MS = 120_000;

export type InstallResult =
  | { readonly dir: string; readonly reason?: undefined }
  | { readonly dir?: undefined; readonly reason: string };

/**
 * node-llama-cpp in a folder of the cache, installed by npm when it is not there: nobody who does not run this bench
 * gets it. Only the processor's prebuilt binary comes along, and no package's scripts are run. Never throws but when
 * aborted.
 */
export async function ensureNodeLlamaCpp(
  cacheDir: string,
  signal: AbortSignal,
  npm = "npm",
): Promise<InstallResult> {
  const platform = `${process.platform}-${process.arch}`;
  if (!["linux-x64", "linux-arm64"].includes(platform)) {
    return { reason: `node-llama-cpp is not installed on ${platform}: the bench runs on Linux.` };
  }
  const dir = path.join(cacheDir, `node-llama-cpp-${NODE_LLAMA_CPP_VERSION}`);
  if (await isThere(dir)) return { dir };
  const temporary = `${dir}.${process.pid}.tmp`;
  const packages = ["node-llama-cpp", `@node-llama-cpp/${platform}`];
  try {
    await mkdir(temporary, { recursive: true });
    await writeFile(path.join(temporary, "package.json"), '{ "private": true }');
    process.stderr.write(
      `Installing node-llama-cpp ${NODE_LLAMA_CPP_VERSION} for comparison, once, into ${dir}\n`,
    );
    const flags = ["--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"];
    const versions = packages.map((name) => `${name}@${NODE_LLAMA_CPP_VERSION}`);
    const how = { cwd: temporary, signal, timeout: INSTALL_TIMEOUT_MS };
    await run(npm, ["install", ...flags, ...versions], how);
    await rename(temporary, dir);
    return { dir };
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    signal.throwIfAborted();
    // Another run may have been quicker.
    if (await isThere(dir)) return { dir };
    const { stderr = "", message } = error as Error & { stderr?: string };
    const why = /npm error (?!code)(.*)/.exec(stderr)?.[1] ?? message.split("\n")[0];
    return { reason: `node-llama-cpp ${NODE_LLAMA_CPP_VERSION} cannot be installed: ${why}` };
  }
}

const isThere = (dir: string): Promise<boolean> =>
  stat(path.join(dir, "node_modules/node-llama-cpp/package.json")).then(
    () => true,
    () => false,
  );
