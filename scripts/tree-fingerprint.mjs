import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import path from "node:path";

/** What a build reads. Assets, tests and documents may change without a new build. */
const BUILD_INPUTS = [
  "package.json",
  "pnpm-lock.yaml",
  "pnpm-workspace.yaml",
  "turbo.json",
  "tsconfig.base.json",
  "tsup.base.ts",
  "packages",
  "apps",
  "native",
  "tools/tinystories",
];
const SKIPPED_FOLDERS = new Set(["node_modules", "dist", "test", "bench", "assets", ".turbo"]);
const isSkipped = (name) => SKIPPED_FOLDERS.has(name) || /^build($|-)/.test(name);

/**
 * A hash over path, size and modification time of every build input, and over the built files'
 * presence: cheap enough (a few hundred stats) to ask before every run.
 */
export function treeFingerprint(root) {
  const hash = createHash("sha256").update(process.version);
  const visit = (relative) => {
    const absolute = path.join(root, relative);
    const stats = statSync(absolute, { throwIfNoEntry: false });
    if (!stats) return;
    if (!stats.isDirectory()) {
      hash.update(`${relative}\0${stats.size}\0${stats.mtimeMs}\n`);
      return;
    }
    for (const name of readdirSync(absolute).sort()) {
      // Built files count by their presence; `native/build`, which only the tests make, does not.
      if (name === "dist" || existsSync(path.join(absolute, name, "Release"))) {
        hash.update(`${relative}/${name}\n`);
      }
      if (!isSkipped(name)) visit(path.join(relative, name));
    }
  };
  BUILD_INPUTS.forEach(visit);
  return hash.digest("hex");
}
