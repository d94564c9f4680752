import { createHash } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
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
const SKIPPED_FOLDERS = new Set([
  "node_modules",
  "dist",
  "build",
  "test",
  "assets",
  ".turbo",
  "fixtures",
]);

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
      if (name === "dist" || name === "build") hash.update(`${relative}/${name}\n`);
      if (!SKIPPED_FOLDERS.has(name)) visit(path.join(relative, name));
    }
  };
  BUILD_INPUTS.forEach(visit);
  return hash.digest("hex");
}
