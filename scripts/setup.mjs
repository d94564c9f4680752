// Everything a fresh machine with Node and npm needs before the first run: Debian build packages,
// pnpm, dependencies, the native build, the TypeScript build. A second run finds its stamp and
// returns at once. Progress goes to standard error, so that a verb's own output stays clean.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { clearInterval, setInterval } from "node:timers";
import { fileURLToPath } from "node:url";
import { treeFingerprint } from "./tree-fingerprint.mjs";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const MINIMUM_NODE_MAJOR = 20;
const STAMP = path.join(ROOT, "node_modules", ".cache", "nchunk-setup.json");

/** What the build needs: a probe that tells whether it is there, and the Debian package that brings it. */
const BUILD_NEEDS = [
  { debianPackage: "g++", isPresent: () => hasCommand("g++") || hasCommand("clang++") },
  { debianPackage: "make", isPresent: () => hasCommand("make") || hasCommand("ninja") },
  { debianPackage: "cmake", isPresent: () => hasCommand("cmake") },
  { debianPackage: "libhwy-dev", isPresent: () => hasHeader("hwy/highway.h") },
];
const TEST_NEEDS = [{ debianPackage: "libgtest-dev", isPresent: () => hasHeader("gtest/gtest.h") }];

function hasCommand(name) {
  return (process.env.PATH ?? "")
    .split(path.delimiter)
    .some((dir) => existsSync(path.join(dir, name)));
}

function hasHeader(name) {
  return ["/usr/include", "/usr/local/include"].some((dir) => existsSync(path.join(dir, name)));
}

export class SetupError extends Error {}

/** Keeps turbo from reporting to its makers. */
export const QUIET_TURBO = { DO_NOT_TRACK: "1", TURBO_TELEMETRY_DISABLED: "1" };

/** How often a step that takes long says that it is still going. */
const HEARTBEAT_MS = 15_000;

/** Runs a command with its output on standard error; throws a SetupError when it fails. */
export async function runStep(title, command, args, options = {}) {
  const started = Date.now();
  const elapsed = () => `${((Date.now() - started) / 1000).toFixed(0)} s`;
  process.stderr.write(`• ${title} ...\n`);
  const child = spawn(command, args, {
    cwd: ROOT,
    stdio: ["ignore", 2, 2],
    env: { ...process.env, ...QUIET_TURBO, ...options.env },
  });
  const heartbeat = setInterval(
    () => process.stderr.write(`  still at it after ${elapsed()}\n`),
    HEARTBEAT_MS,
  );
  try {
    const [status, signal] = await once(child, "close");
    if (status !== 0) {
      const line = [command, ...args].join(" ");
      throw new SetupError(`${title} failed: \`${line}\` ended with ${status ?? signal}.`);
    }
  } catch (error) {
    if (error instanceof SetupError) throw error;
    throw new SetupError(`${title}: ${command} did not start: ${error.message}`);
  } finally {
    clearInterval(heartbeat);
  }
  process.stderr.write(`  done in ${elapsed()}\n`);
}

async function installDebianPackages(needs) {
  const missing = needs.filter((need) => !need.isPresent()).map((need) => need.debianPackage);
  if (missing.length === 0) return;
  const line = `apt-get update && apt-get install -y --no-install-recommends ${missing.join(" ")}`;
  if (!hasCommand("apt-get")) {
    throw new SetupError(
      `The build needs the equivalents of these Debian packages: ${missing.join(", ")}. Install them and run this again.`,
    );
  }
  const isRoot = process.getuid?.() === 0;
  const sudoWorks = !isRoot && spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0;
  if (!isRoot && !sudoWorks) {
    throw new SetupError(
      `Packages are missing. Type this line, then run this again:\n\n  sudo sh -c '${line}'\n`,
    );
  }
  const shell = isRoot ? ["sh", "-c", line] : ["sudo", "-n", "sh", "-c", line];
  await runStep(`Installing ${missing.join(", ")}`, shell[0], shell.slice(1), {
    env: { DEBIAN_FRONTEND: "noninteractive" },
  });
}

/** Runs the pinned pnpm, which need not be installed; it also puts itself on the path, where turbo looks for it. */
export function pnpmCommand(args) {
  const { packageManager } = JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8"));
  return ["npx", ["--yes", "--prefer-offline", packageManager, ...args]];
}

export const turboCommand = (task) =>
  pnpmCommand([
    "exec",
    "turbo",
    "run",
    task,
    "--concurrency=2",
    "--output-logs=errors-only",
    "--ui=stream",
  ]);

function isSetUp() {
  if (!existsSync(STAMP)) return false;
  return JSON.parse(readFileSync(STAMP, "utf8")).fingerprint === treeFingerprint(ROOT);
}

/** Brings the working tree to a runnable state. `withTests` adds what only the tests need. */
export async function setUp({ withTests = false } = {}) {
  if (Number(process.versions.node.split(".")[0]) < MINIMUM_NODE_MAJOR) {
    throw new SetupError(
      `Node.js ${MINIMUM_NODE_MAJOR} or newer is needed; this is ${process.version}.`,
    );
  }
  await installDebianPackages(withTests ? [...BUILD_NEEDS, ...TEST_NEEDS] : BUILD_NEEDS);
  if (isSetUp()) return;
  await runStep(
    "Installing dependencies",
    ...pnpmCommand(["install", "--frozen-lockfile", "--prefer-offline"]),
  );
  await runStep("Building the native parts and the packages", ...turboCommand("build"));
  mkdirSync(path.dirname(STAMP), { recursive: true });
  writeFileSync(STAMP, JSON.stringify({ fingerprint: treeFingerprint(ROOT) }) + "\n");
}

/** Runs `main` and turns a SetupError into one readable line and exit code 1. */
export async function exitOnSetupError(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`\n${error.message}\n`);
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await exitOnSetupError(() => setUp({ withTests: process.argv.includes("--with-tests") }));
}
