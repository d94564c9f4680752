import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import path from "node:path";
import { tealAllocations } from "@neuron-chunking/chunk-selector";
import type { Calibration, SparsityAllocationFile } from "@neuron-chunking/chunk-selector";
import {
  allocationPath,
  calibrationPath,
  VlmExecutor,
  writeTogether,
} from "@neuron-chunking/vlm-executor";
import type { Command } from "commander";
import { allocationBeside } from "../calibrated-options";
import { calibrationSet, type CalibrationPrompt } from "../calibration-set";
import { NchunkError } from "../errors";
import { flashImageOf } from "../model-source";
import { parsePositiveInteger, parseSparsities } from "../options";
import { formatTable } from "../terminal/format";
import { withProgress } from "../terminal/progress";
import { runVerb } from "./run-verb";

interface CalibrateOptions {
  model: string;
  text: string;
  images?: string;
  out?: string;
  sparsity: number[];
  threads?: number;
  json?: boolean;
}

const DEFAULT_SPARSITIES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/**
 * Tokens of one pass. Few, as every matrix of every layer is tried several times on one pass of each prompt, and
 * the weights tell no more from more tokens of the same picture.
 */
const BLOCK_TOKENS = 64;

/** The two files a calibration writes. */
interface CalibrationFiles {
  calibration: string;
  allocation: string;
}

/** Where `--out` names no place, the image itself, in which `nchunk run` looks. */
function calibrationFiles(out: string | undefined, imageDir: string): CalibrationFiles {
  const calibration = out === undefined ? calibrationPath(imageDir) : path.resolve(out);
  const allocation = out === undefined ? allocationPath(imageDir) : allocationBeside(calibration);
  return { calibration, allocation };
}

/** Throws INVALID_ARGUMENT where nothing could be written: better now than after minutes. */
async function requireWritable({ calibration }: CalibrationFiles): Promise<void> {
  const folder = path.dirname(calibration);
  try {
    await access(folder, constants.W_OK);
  } catch (cause) {
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `Nothing can be written into ${folder} (${(cause as Error).message}). Give another place with --out FILE.`,
      { cause },
    );
  }
  const isFolder = await stat(calibration).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) return;
  throw new NchunkError("INVALID_ARGUMENT", `${calibration} is a folder. Give --out a file.`);
}

async function measure(
  executor: VlmExecutor,
  prompts: readonly CalibrationPrompt[],
  signal: AbortSignal,
): Promise<Calibration> {
  // A file that is no picture is an error now, not after minutes.
  for (const image of new Set(prompts.flatMap(({ image }) => image ?? []))) {
    await executor.preparePixels({ images: [image], signal });
  }
  async function* inputs() {
    for (const { prompt, image } of prompts) {
      yield await executor.prepare({ prompt, ...(image ? { images: [image] } : {}), signal });
    }
  }
  return withProgress("Calibrating", (report) =>
    executor.measure(inputs(), {
      signal,
      onProgress: (done) =>
        report(done / prompts.length, `prompt ${Math.ceil(done)} of ${prompts.length}`),
    }),
  );
}

/** What was found, without the counts of every channel. */
function summary(
  files: CalibrationFiles,
  { model, source, bundles }: Calibration,
  { allocations }: SparsityAllocationFile,
): Record<string, unknown> {
  const briefly = bundles.map(({ activeCounts, ...bundle }) => ({
    ...bundle,
    alwaysActive: activeCounts.filter((count) => count === bundle.samples).length,
    neverActive: activeCounts.filter((count) => count === 0).length,
  }));
  return { ...files, model, source, bundles: briefly, allocations };
}

function describe(files: CalibrationFiles, { source, bundles }: Calibration): string {
  const { prompts, passes, measuredPasses, tokens } = source;
  const rows = bundles.map(({ name, weight, importance }) => [
    name,
    weight.toFixed(4),
    importance.cv.toFixed(2),
  ]);
  return [
    `${prompts} prompts, ${tokens} tokens in ${passes} passes, ${measuredPasses} of them measured.`,
    formatTable(["matrix", "w", "CV"], rows),
    "w: relative error of the layer's output per share of importance lost; CV: spread of the importance.",
    `Calibration: ${files.calibration}`,
    `TEAL sparsities: ${files.allocation}`,
  ].join("\n");
}

export function registerCalibrate(program: Command): void {
  program
    .command("calibrate")
    .description(
      "Measure on your pictures and prompts how much each matrix of a model matters, for `run --latency-target`, `--quality-target` and `--allocation`, and for `convert --calibration`.",
    )
    .requiredOption("--model <dir>", "a Hugging Face checkpoint or a flash image")
    .requiredOption("--text <file>", "prompts, one on each line")
    .option("--images <dir>", "pictures, shown one with each prompt (leave out for text models)")
    .option(
      "--out <file>",
      "where the calibration goes; FILE.allocation.json beside it has the sparsities (default: into the flash image, where `run` finds them)",
    )
    .option(
      "--sparsity <list>",
      "overall sparsities to allocate by TEAL's method, such as 0.3,0.5",
      parseSparsities,
      DEFAULT_SPARSITIES,
    )
    .option("--threads <count>", "compute threads", parsePositiveInteger)
    .option("--json", "print what was found as JSON")
    .action((options: CalibrateOptions) =>
      runVerb(options, async (output, signal) => {
        const prompts = await calibrationSet(options.text, options.images);
        const imageDir = await flashImageOf(options.model, signal);
        const files = calibrationFiles(options.out, imageDir);
        await requireWritable(files);
        const executor = await VlmExecutor.open(imageDir, {
          policy: "dense",
          blockTokens: BLOCK_TOKENS,
          // A layer is read again and again: from memory, if there is some.
          directIo: "disabled",
          signal,
          ...(options.threads === undefined ? {} : { threads: options.threads }),
        });
        try {
          const calibration = await measure(executor, prompts, signal);
          const allocation = tealAllocations(calibration, options.sparsity);
          signal.throwIfAborted();
          await writeTogether([
            { path: files.calibration, content: calibration },
            { path: files.allocation, content: allocation },
          ]);
          output.result(summary(files, calibration, allocation));
          output.line(describe(files, calibration));
        } finally {
          await executor.close();
        }
      }),
    );
}
