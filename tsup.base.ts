import type { Options } from "tsup";

/** ESM first with CommonJS beside it, types for both. Every package builds through this. */
export const libraryBuild: Options = {
  entry: ["src/index.ts"],
  format: ["esm", "cjs"],
  target: "node20",
  dts: true,
  clean: true,
  shims: true,
  sourcemap: true,
};
