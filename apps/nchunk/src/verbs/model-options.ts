import { Option, type Command } from "commander";
import { POLICY_NAMES, type PolicyName } from "@neuron-chunking/chunk-selector";
import { VlmExecutor, type OpenOptions } from "@neuron-chunking/vlm-executor";
import {
  calibratedSelection,
  checkCombination,
  type CalibratedOptions,
} from "../calibrated-options";
import { chooseProfile } from "../device-profile";
import { flashImageOf } from "../model-source";
import {
  parseBytes,
  parseFraction,
  parseNonNegative,
  parsePositive,
  parsePositiveInteger,
  parseTimeNs,
} from "../options";
import { withProgress } from "../terminal/progress";

const PRICING_POLICIES: ReadonlySet<PolicyName> = new Set<PolicyName>(["chunk", "lagrange"]);

/** What every verb that opens a model accepts. */
export interface ModelOptions extends CalibratedOptions {
  policy: PolicyName;
  threshold?: number;
  device?: string;
  directIo: "required" | "optional" | "disabled";
  threads?: number;
  arithmetic?: "f32" | "reduced";
  contextLength?: number;
  memoryBudget?: number;
  maxPicturePixels?: number;
  prefetch?: "auto" | "always" | "off";
}

/** Which rows are read. */
function addSelectionOptions(command: Command, defaultPolicy: PolicyName): Command {
  return command
    .requiredOption("--model <dir>", "a Hugging Face checkpoint or a flash image")
    .addOption(
      new Option("--policy <name>", "which rows to read; only dense is exact")
        .choices(POLICY_NAMES)
        .default(defaultPolicy),
    )
    .option(
      "--sparsity <fraction>",
      "share of rows left out by topk and chunk; what lagrange makes of it says --balance (default: 0.5)",
      parseFraction,
    )
    .option(
      "--latency-target <time>",
      "lagrange: modelled reading time of one pass, such as 30ms",
      parseTimeNs,
    )
    .option(
      "--quality-target <error>",
      "lagrange: mean relative error of a layer's output, by the calibration, such as 0.05",
      parsePositive,
    )
    .option(
      "--price <value>",
      "lagrange: error that one ns of reading must save, the price behind both targets",
      parsePositive,
    )
    .addOption(
      new Option(
        "--balance <way>",
        "lagrange at a sparsity: one price for the model, for the reading time that topk's importance of every matrix takes, " +
          "or that importance itself (default: one-price where there is a calibration)",
      ).choices(["one-price", "equal-importance"]),
    )
    .option(
      "--calibration <file>",
      "made by `nchunk calibrate --out`; needed by a target, a price and --balance one-price (default: the flash image's own)",
    )
    .option(
      "--allocation <teal|file>",
      "a sparsity for each matrix instead of one for all: TEAL's, as `nchunk calibrate` allocated them",
    )
    .option(
      "--threshold <value>",
      "least importance of a kept row, for threshold",
      parseNonNegative,
    );
}

export function addModelOptions(command: Command, defaultPolicy: PolicyName): Command {
  return addSelectionOptions(command, defaultPolicy)
    .option(
      "--device <name>",
      "device profile: a file, or orin-agx, orin-nano, nvme-gen4 (default: this disk, measured once)",
    )
    .addOption(
      new Option("--direct-io <mode>", "read past the page cache")
        .choices(["required", "optional", "disabled"])
        .default("optional"),
    )
    .option("--threads <count>", "compute threads", parsePositiveInteger)
    .addOption(
      new Option(
        "--arithmetic <way>",
        "of products: f32, or reduced, which rounds what is multiplied where the processor is faster then; lossy (default: f32)",
      ).choices(["f32", "reduced"]),
    )
    .option("--context-length <tokens>", "positions of the KV cache", parsePositiveInteger)
    .option(
      "--memory-budget <size>",
      "most memory of the whole process, such as 2GiB: refused where it cannot work; hot rows fill what it leaves",
      parseBytes,
    )
    .option(
      "--max-picture-pixels <count>",
      "with a budget, largest picture (width times height; default: 4194304)",
      parsePositiveInteger,
    )
    .addOption(
      new Option(
        "--prefetch <when>",
        "read rows of the last pass before it is known that this one needs them; changes no output (default: under dense)",
      ).choices(["auto", "always", "off"]),
    );
}

/** Opens what the options name, converting and profiling first where needed. The caller closes it. */
export async function openModel(options: ModelOptions, signal: AbortSignal): Promise<VlmExecutor> {
  const { imageDir, openOptions } = await resolveModel(options, signal);
  return withProgress(`Opening ${options.model}`, (report) =>
    VlmExecutor.open(imageDir, {
      ...openOptions,
      signal,
      onProgress: (bytesDone, bytesTotal) => report(bytesDone / Math.max(1, bytesTotal)),
    }),
  );
}

/** What the options come to: an image and how to open it, converted and profiled first where needed. */
export async function resolveModel(
  options: ModelOptions,
  signal: AbortSignal,
): Promise<{ imageDir: string; openOptions: OpenOptions }> {
  checkCombination(options);
  const imageDir = await flashImageOf(options.model, signal);
  const selection = await calibratedSelection(options, imageDir);
  // Only policies that price their reads wait for a measurement.
  const needsProfile = PRICING_POLICIES.has(options.policy) || options.device !== undefined;
  const source = needsProfile ? await chooseProfile(options.device, imageDir, signal) : undefined;
  const { sparsity, threshold, threads, contextLength, memoryBudget } = options;
  const { maxPicturePixels, prefetch, arithmetic } = options;
  const openOptions = {
    policy: options.policy,
    ...selection,
    directIo: options.directIo,
    ...(sparsity === undefined ? {} : { sparsity }),
    ...(source ? { profile: source.profile } : {}),
    ...(threshold === undefined ? {} : { threshold }),
    ...(threads === undefined ? {} : { threads }),
    ...(arithmetic === undefined ? {} : { arithmetic }),
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(memoryBudget === undefined ? {} : { memoryBudgetBytes: memoryBudget }),
    ...(maxPicturePixels === undefined ? {} : { maxPicturePixels }),
    ...(prefetch === undefined ? {} : { prefetch }),
  };
  return { imageDir, openOptions };
}
