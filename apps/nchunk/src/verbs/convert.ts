import path from "node:path";
import { parseCalibration } from "@neuron-chunking/chunk-selector";
import { requireSameModel, VlmExecutor } from "@neuron-chunking/vlm-executor";
import { convertCheckpoint, readManifest } from "@neuron-chunking/weight-store";
import type { GroupSize, QuantisedDType } from "@neuron-chunking/weight-store";
import { Option, type Command } from "commander";
import { readJson } from "../device-profile";
import { hotColdOf } from "../hot-cold";
import { flashImageOf } from "../model-source";
import { parseGroupSize } from "../options";
import { loadPrompts, visuals } from "../prompts";
import { withProgress } from "../terminal/progress";
import { describeConversion, summariseConversion } from "./convert-summary";
import { runVerb } from "./run-verb";

interface ConvertOptions {
  model: string;
  out: string;
  bundled: boolean;
  dtype?: QuantisedDType;
  groupSize?: GroupSize;
  calibration?: string;
  json?: boolean;
}

/** Hot-cold row orders by a file: what `nchunk calibrate` wrote, or prompts to find out with. */
async function hotColdOrders(
  options: ConvertOptions,
  file: string,
  signal: AbortSignal,
): Promise<Record<string, Uint32Array>> {
  const content = await readJson(file);
  // A list is prompts, or an attempt at them.
  if (Array.isArray(content) || !(content as { kind?: unknown } | null)?.kind) {
    return ordersByPrompts(options, file, signal);
  }
  const calibration = parseCalibration(content);
  const imageDir = await flashImageOf(options.model, signal);
  requireSameModel(calibration.model, await readManifest(imageDir), options.model);
  return hotColdOf(calibration, options.bundled);
}

/** Hot-cold row orders from the activations that the prompts of a file cause, each run once with every row. */
async function ordersByPrompts(
  options: ConvertOptions,
  file: string,
  signal: AbortSignal,
): Promise<Record<string, Uint32Array>> {
  const prompts = await loadPrompts(file);
  const imageDir = await flashImageOf(options.model, signal, { bundled: options.bundled });
  const executor = await VlmExecutor.open(imageDir, { policy: "dense", signal });
  async function* inputs() {
    for (const prompt of prompts) {
      yield await executor.prepare({ prompt: prompt.prompt, ...visuals(prompt), signal });
    }
  }
  try {
    return await withProgress("Running the calibration prompts", (report) =>
      executor.calibrate(inputs(), {
        signal,
        onProgress: (done) => report(done / prompts.length, `${done} of ${prompts.length}`),
      }),
    );
  } finally {
    await executor.close();
  }
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
      "--calibration <file>",
      "store often active rows first, by a calibration that `nchunk calibrate` wrote, or as the prompts of this JSON file ([{ prompt, image?, frames? }]) show them",
    )
    .addOption(
      new Option(
        "--dtype <type>",
        "quantise the weights that are streamed; lossy (default: store them bit for bit)",
      ).choices(["int8", "int4"]),
    )
    .option(
      "--group-size <columns>",
      "with --dtype: neighbouring columns that share a scale, 32 or 64 (default: 32)",
      parseGroupSize,
    )
    .option("--json", "print the manifest as JSON, with what the conversion did to the weights")
    .action((options: ConvertOptions) =>
      runVerb(options, async (output, signal) => {
        const permutations = options.calibration
          ? await hotColdOrders(options, options.calibration, signal)
          : undefined;
        const outputDir = path.resolve(options.out);
        const manifest = await withProgress(`Converting ${options.model}`, (report) =>
          convertCheckpoint({
            checkpointDir: options.model,
            outputDir,
            bundled: options.bundled,
            dtype: options.dtype,
            groupSize: options.groupSize,
            ...(permutations ? { permutations } : {}),
            onProgress: ({ bytesDone, bytesTotal, item }) =>
              report(bytesTotal > 0 ? bytesDone / bytesTotal : undefined, item),
            signal,
          }),
        );
        output.result({ ...manifest, conversion: summariseConversion(manifest) });
        output.line(describeConversion(outputDir, manifest));
      }),
    );
}
