import path from "node:path";
import type { Command } from "commander";
import { cacheFolder } from "../cache";
import { measureProfile } from "../device-profile";
import { NchunkError } from "../errors";
import { requireWritable, writeText } from "../html-page/output-file";
import { describeProfile } from "../profile-report/terminal";
import { runVerb } from "./run-verb";

interface ProfileOptions {
  out?: string;
  html?: string;
  full?: boolean;
  json?: boolean;
}

/** What can be wrong with the files to write is said before anything is measured. */
async function requireOutputs({ out, html }: ProfileOptions): Promise<void> {
  if (out !== undefined && html !== undefined && path.resolve(out) === path.resolve(html)) {
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `--out and --html both name ${path.resolve(out)}; give two files.`,
    );
  }
  for (const file of [out, html]) if (file !== undefined) await requireWritable(file);
}

export function registerProfile(program: Command): void {
  program
    .command("profile")
    .description(
      "Measure how long this disk takes to read chunks of each size, and keep the result.",
    )
    .argument("[path]", "a folder on the disk to measure (default: the cache folder)")
    .option("--full", "measure more sizes and rounds")
    .option("--out <file>", "also write the profile here")
    .option("--html <file>", "also write it as a page with charts, which needs nothing else")
    .option("--json", "print the profile as JSON")
    .action((directory: string | undefined, options: ProfileOptions) =>
      runVerb(options, async (output, signal) => {
        await requireOutputs(options);
        const folder = directory ? path.resolve(directory) : await cacheFolder("probe");
        const { profile, file } = await measureProfile(folder, { quick: !options.full, signal });
        if (options.out) await writeText(options.out, `${JSON.stringify(profile, null, 2)}\n`);
        if (options.html) {
          // Loaded only here: drawing needs libraries that no other verb should wait for.
          const { renderProfilePage } = await import("../profile-report/page");
          await writeText(options.html, renderProfilePage(profile));
        }
        output.result(profile);
        output.line(describeProfile(profile, process.stdout.columns || undefined));
        output.line(`Kept in ${file}${options.html ? `; charts in ${options.html}` : ""}.`);
      }),
    );
}
