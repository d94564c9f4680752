import path from "node:path";
import type { Command } from "commander";
import { cacheFolder } from "../cache";
import { diagnose } from "../doctor/diagnose";
import { describeDiagnosis } from "../doctor/text";
import { runVerb } from "./run-verb";

/** The folder to look at: what was typed, or the cache folder, made if need be. */
async function folderOf(typed: string | undefined): Promise<{ path: string; error?: Error }> {
  if (typed !== undefined) return { path: path.resolve(typed) };
  try {
    return { path: await cacheFolder() };
  } catch (error) {
    return { path: process.env["NCHUNK_CACHE_DIR"] ?? "", error: error as Error };
  }
}

export function registerDoctor(program: Command): void {
  program
    .command("doctor")
    .description(
      "Tell what this machine can do: ways of reading, disk, processor, memory, and what is missing.",
    )
    .argument("[path]", "a folder on the disk to look at (default: the cache folder)")
    .option("--json", "print { ok, path, findings } as JSON")
    .action((typed: string | undefined, options: { json?: boolean }) =>
      runVerb(options, async (output) => {
        const diagnosis = await diagnose(await folderOf(typed));
        output.result(diagnosis);
        output.line(describeDiagnosis(diagnosis, process.stdout.columns || undefined));
        if (!diagnosis.ok) process.exitCode = 1;
      }),
    );
}
