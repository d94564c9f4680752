import { Option, type Command } from "commander";
import { POLICY_NAMES, type PolicyName } from "@neuron-chunking/chunk-selector";
import { VlmExecutor } from "@neuron-chunking/vlm-executor";
import { chooseProfile } from "../device-profile";
import { flashImageOf } from "../model-source";
import { parseBytes, parseFraction, parseNonNegative, parsePositiveInteger } from "../options";
import { withProgress } from "../terminal/progress";

/** What every verb that opens a model accepts. */
export interface ModelOptions {
  model: string;
  policy: PolicyName;
  sparsity: number;
  threshold?: number;
  device?: string;
  directIo: "required" | "optional" | "disabled";
  threads?: number;
  contextLength?: number;
  memoryBudget?: number;
}

export function addModelOptions(command: Command, defaultPolicy: PolicyName): Command {
  return command
    .requiredOption("--model <dir>", "a Hugging Face checkpoint or a flash image")
    .addOption(
      new Option("--policy <name>", "which rows to read; only dense is exact")
        .choices(POLICY_NAMES)
        .default(defaultPolicy),
    )
    .option("--sparsity <fraction>", "share of rows left out by topk and chunk", parseFraction, 0.5)
    .option(
      "--threshold <value>",
      "least importance of a kept row, for threshold",
      parseNonNegative,
    )
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
    .option("--context-length <tokens>", "positions of the KV cache", parsePositiveInteger)
    .option("--memory-budget <size>", "refuse to open a model that needs more", parseBytes);
}

/** Opens what the options name, converting and profiling first where needed. The caller closes it. */
export async function openModel(options: ModelOptions, signal: AbortSignal): Promise<VlmExecutor> {
  const imageDir = await flashImageOf(options.model, signal);
  // Only `chunk` prices its reads, so nothing else waits for a measurement.
  const needsProfile = options.policy === "chunk" || options.device !== undefined;
  const source = needsProfile ? await chooseProfile(options.device, imageDir, signal) : undefined;
  return withProgress(`Opening ${options.model}`, (report) =>
    VlmExecutor.open(imageDir, {
      policy: options.policy,
      sparsity: options.sparsity,
      directIo: options.directIo,
      signal,
      onProgress: (bytesDone, bytesTotal) => report(bytesDone / Math.max(1, bytesTotal)),
      ...(source ? { profile: source.profile } : {}),
      ...(options.threshold === undefined ? {} : { threshold: options.threshold }),
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      ...(options.contextLength === undefined ? {} : { contextLength: options.contextLength }),
      ...(options.memoryBudget === undefined ? {} : { memoryBudgetBytes: options.memoryBudget }),
    }),
  );
}
