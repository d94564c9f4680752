// Everything a fresh machine with Node and npm needs before the first run: Debian build packages,
// pnpm, dependencies, the native build, the TypeScript build. A second run finds its stamp and
// returns at once. Progress goes to standard error, so that a verb's own output stays clean.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
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

/** Runs a command with its output on standard error; throws a SetupError when it fails. */
export function runStep(title, command, args, options = {}) {
  const started = Date.now();
  process.stderr.write(`• ${title} ...\n`);
  const result = spawnSync(command, args, {
    cwd: ROOT,
    stdio: ["ignore", 2, 2],
    ...options,
    env: { ...process.env, DO_NOT_TRACK: "1", TURBO_TELEMETRY_DISABLED: "1", ...options.env },
  });
  if (result.error)
    throw new SetupError(`${title}: ${command} did not start: ${result.error.message}`);
  if (result.status !== 0) {
    throw new SetupError(
      `${title} failed: \`${[command, ...args].join(" ")}\` ended with ${result.status ?? result.signal}.`,
    );
  }
  process.stderr.write(`  done in ${((Date.now() - started) / 1000).toFixed(1)} s\n`);
}

function installDebianPackages(needs) {
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
  runStep(`Installing ${missing.join(", ")}`, shell[0], shell.slice(1), {
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
export function setUp({ withTests = false } = {}) {
  if (Number(process.versions.node.split(".")[0]) < MINIMUM_NODE_MAJOR) {
    throw new SetupError(
      `Node.js ${MINIMUM_NODE_MAJOR} or newer is needed; this is ${process.version}.`,
    );
  }
  installDebianPackages(withTests ? [...BUILD_NEEDS, ...TEST_NEEDS] : BUILD_NEEDS);
  if (isSetUp()) return;
  runStep(
    "Installing dependencies",
    ...pnpmCommand(["install", "--frozen-lockfile", "--prefer-offline"]),
  );
  runStep("Building the native parts and the packages", ...turboCommand("build"));
  mkdirSync(path.dirname(STAMP), { recursive: true });
  writeFileSync(STAMP, JSON.stringify({ fingerprint: treeFingerprint(ROOT) }) + "\n");
}

/** Runs `main` and turns a SetupError into one readable line and exit code 1. */
export function exitOnSetupError(main) {
  try {
    main();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`\n${error.message}\n`);
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  exitOnSetupError(() => setUp({ withTests: process.argv.includes("--with-tests") }));
}
