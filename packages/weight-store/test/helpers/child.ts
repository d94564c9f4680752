import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { ConvertOptions } from "../../src/convert.js";

const SCRIPT = fileURLToPath(new URL("./convert-child.mjs", import.meta.url));

export interface ChildOutcome {
  signal: NodeJS.Signals | null;
  maxRssKiB?: number;
  code?: string;
  errno?: string;
}

/** Runs a conversion in a child process; `limit` is shell that runs before it, such as a ulimit. */
export function convertInChild(
  options: Pick<ConvertOptions, "checkpointDir" | "outputDir" | "dtype" | "groupSize"> & {
    killAt?: number;
  },
  limit = "true",
): ChildOutcome {
  const run = spawnSync(
    "bash",
    ["-c", `${limit} && exec "$0" "$@"`, process.execPath, SCRIPT, JSON.stringify(options)],
    { encoding: "utf8" },
  );
  const line = run.stdout.trim().split("\n").at(-1) ?? "";
  if (line === "" && run.signal === null) throw new Error(run.stderr);
  return { signal: run.signal, ...(line === "" ? {} : (JSON.parse(line) as object)) };
}
