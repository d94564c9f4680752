import path from "node:path";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import type { Command } from "commander";
import { cacheFolder } from "../cache";
import { measureProfile, writeJson } from "../device-profile";
import { formatBytes, formatNs, formatTable } from "../terminal/format";
import { runVerb } from "./run-verb";

interface ProfileOptions {
  out?: string;
  full?: boolean;
  json?: boolean;
}

function describe(profile: DeviceProfile): string {
  const { sizesBytes, latencyNs } = profile.table;
  const rows = sizesBytes.map((size, i) => [
    formatBytes(size),
    formatNs(latencyNs[i]),
    `${((size / latencyNs[i]) * 1e3).toFixed(0)} MB/s`,
  ]);
  return formatTable(["read size", "time per read", "throughput"], rows);
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
    .option("--json", "print the profile as JSON")
    .action((directory: string | undefined, options: ProfileOptions) =>
      runVerb(options, async (output, signal) => {
        const folder = directory ? path.resolve(directory) : await cacheFolder("probe");
        const { profile, file } = await measureProfile(folder, { quick: !options.full, signal });
        if (options.out) await writeJson(options.out, profile);
        output.result(profile);
        output.line(describe(profile));
        output.line(
          `Saturation: ${formatBytes(profile.saturationBytes)} (99 % of the peak). Kept in ${file}.`,
        );
      }),
    );
}
