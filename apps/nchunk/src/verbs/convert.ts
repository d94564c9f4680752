import path from "node:path";
import { hotColdPermutation } from "@neuron-chunking/chunk-selector";
import { convertCheckpoint } from "@neuron-chunking/weight-store";
import type { Command } from "commander";
import { readFrequencies } from "../calibration";
import { formatBytes } from "../terminal/format";
import { withProgress } from "../terminal/progress";
import { runVerb } from "./run-verb";

interface ConvertOptions {
  model: string;
  out: string;
  bundled: boolean;
  reorder?: string;
  json?: boolean;
}

async function permutationsFrom(file: string): Promise<Record<string, Uint32Array>> {
  const frequencies = await readFrequencies(file);
  return Object.fromEntries(
    Object.entries(frequencies).map(([bundle, values]) => [bundle, hotColdPermutation(values)]),
  );
}

export function registerConvert(program: Command): void {
  program
    .command("convert")
    .description(
      "Turn a Hugging Face checkpoint into a flash image: rows per neuron, aligned, in chunks.",
    )
    .requiredOption("--model <dir>", "the checkpoint's folder")
    .requiredOption("--out <dir>", "the flash image to make")
    .option("--no-bundled", "keep q, k, v and gate, up apart, as the paper reads them")
    .option(
      "--reorder <file>",
      "store often active rows first, by the activation frequencies in this file (`nchunk run --record-activations`)",
    )
    .option("--json", "print the manifest as JSON")
    .action((options: ConvertOptions) =>
      runVerb(options, async (output, signal) => {
        const permutations = options.reorder ? await permutationsFrom(options.reorder) : undefined;
        const outputDir = path.resolve(options.out);
        const manifest = await withProgress(`Converting ${options.model}`, (report) =>
          convertCheckpoint({
            checkpointDir: options.model,
            outputDir,
            bundled: options.bundled,
            ...(permutations ? { permutations } : {}),
            onProgress: ({ bytesDone, bytesTotal, item }) =>
              report(bytesTotal > 0 ? bytesDone / bytesTotal : undefined, item),
            signal,
          }),
        );
        const flashBytes = manifest.flash.bundles.reduce(
          (sum, { rows, rowBytes }) => sum + rows * rowBytes,
          0,
        );
        output.result(manifest);
        output.line(
          `${outputDir}: ${manifest.flash.bundles.length} bundles, ${formatBytes(flashBytes)} to stream from flash.`,
        );
      }),
    );
}
