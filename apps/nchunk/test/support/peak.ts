import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import type { MemoryCgroup } from "../../src/bench/e2e/memory-cgroup";
import { CACHE_DIR, CLI, type CliResult } from "./cli";

export interface PeakResult extends CliResult {
  /** Peak resident set of the process, bytes, as the kernel counted it. */
  peakBytes: number;
}

const REPORTER = pathToFileURL(path.join(import.meta.dirname, "report-peak.mjs")).href;
/** Joins the group and becomes the command, so that all of its memory is charged to the group. */
const ENTER_GROUP = 'echo $$ > "$0" && exec "$@"';

/** Runs the built command line, in a control group if one is given, and tells how much memory it took. */
export async function nchunkPeak(args: string[], group?: MemoryCgroup): Promise<PeakResult> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-peak-"));
  const peakFile = path.join(folder, "peak");
  const node = [process.execPath, `--import=${REPORTER}`, CLI, ...args];
  const [command, ...rest] =
    group === undefined ? node : ["/bin/sh", "-c", ENTER_GROUP, group.procsFile, ...node];
  const child = spawn(command, rest, {
    env: { ...process.env, NCHUNK_CACHE_DIR: CACHE_DIR, NCHUNK_PEAK_FILE: peakFile },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  try {
    const [stdout, stderr, status] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      ended,
    ]);
    // A process that was killed leaves none.
    const peak = await readFile(peakFile, "utf8").catch(() => "NaN");
    return { status, stdout, stderr, peakBytes: Number(peak) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
