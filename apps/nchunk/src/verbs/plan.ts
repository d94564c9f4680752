import { VlmExecutor, type MemoryPlan } from "@neuron-chunking/vlm-executor";
import type { Command } from "commander";
import { parsePositiveInteger } from "../options";
import { formatBytes, formatNs, formatPercent, formatTable } from "../terminal/format";
import { addModelOptions, resolveModel, type ModelOptions } from "./model-options";
import { runVerb } from "./run-verb";

interface PlanOptions extends ModelOptions {
  context?: number;
  json?: boolean;
}

/** The account, part by part, in the order in which people look for their memory. */
const PARTS = [
  ["resident weights: embeddings, vision tower, norms, row orders", "residentBytes"],
  ["hot rows of the streamed matrices", "prefixBytes"],
  ["KV cache", "kvCacheBytes"],
  ["activations of the decoder", "runStateBytes"],
  ["activations of the vision tower", "visionStateBytes"],
  ["a picture: decoding it, its tiles, their features", "pictureBytes"],
  ["scratch of the kernels", "scratchBytes"],
  ["landing buffers and selectors", "landingBytes"],
  ["rows read ahead", "readAheadBytes"],
  ["tokenizer and heap", "heapBytes"],
  ["process: Node, code, native libraries, reader", "processBytes"],
] as const satisfies readonly (readonly [string, keyof MemoryPlan])[];

function table(plan: MemoryPlan): string {
  const rows = PARTS.filter(([, part]) => plan[part] > 0).map(([name, part]) => [
    name,
    formatBytes(plan[part]),
  ]);
  return formatTable(
    ["in memory", "most"],
    [...rows, ["the process at its peak", formatBytes(plan.totalBytes)]],
  );
}

function describeBudget(plan: MemoryPlan, budgetBytes: number | undefined): string {
  if (budgetBytes === undefined) {
    return `The smallest budget that works is ${plan.minimumBytes} bytes (${formatBytes(plan.minimumBytes)}).`;
  }
  if (plan.minimumBytes > budgetBytes) {
    return (
      `A budget of ${formatBytes(budgetBytes)} does not work: the smallest that does is ` +
      `${plan.minimumBytes} bytes (${formatBytes(plan.minimumBytes)}).`
    );
  }
  return `It fits the budget of ${formatBytes(budgetBytes)}.`;
}

const CHANCES = {
  dense: "every row is read in every pass",
  calibration: "rows by how often the calibration saw them active",
  uniform: "every row as likely to be read as any other; calibrate to tell hot rows",
} as const;

function describeReading(plan: MemoryPlan, options: PlanOptions): string {
  const { prefix, streamedBytes } = plan;
  const resident = prefix.bytes / Math.max(1, streamedBytes);
  const kept = `${formatPercent(resident)} of it in memory, in ${prefix.bundles.length} matrices`;
  const expected = formatNs(prefix.expectedReadNs);
  const without = prefix.bytes > 0 ? ` (${formatNs(prefix.expectedReadNsWithout)} without)` : "";
  const target = options.latencyTarget ?? options.qualityTarget ?? options.price;
  const instead =
    target === undefined
      ? ""
      : "\nThat is at half of the rows; the target or price decides instead.";
  return (
    `${formatBytes(streamedBytes)} of decoder weights on flash, ${kept}.\n` +
    `Expected reading per pass under ${options.policy}: ${expected}${without}, modelled; ${CHANCES[prefix.basis]}.${instead}`
  );
}

export function registerPlan(program: Command): void {
  const command = program
    .command("plan")
    .description(
      "Say what a model would hold in memory and read from flash, before anything is loaded.",
    );
  addModelOptions(command, "lagrange")
    .option("--context <tokens>", "the same as --context-length", parsePositiveInteger)
    .option("--json", "print the plan as JSON")
    .action((options: PlanOptions) =>
      runVerb(options, async (output, signal) => {
        const contextLength = options.contextLength ?? options.context;
        const asked = contextLength === undefined ? options : { ...options, contextLength };
        const { imageDir, openOptions } = await resolveModel(asked, signal);
        const plan = await VlmExecutor.plan(imageDir, openOptions);
        const budgetBytes = options.memoryBudget;
        const fits = budgetBytes === undefined || plan.minimumBytes <= budgetBytes;
        output.result({
          ...plan,
          ...(budgetBytes === undefined ? {} : { budgetBytes }),
          fits,
          policy: options.policy,
          device: openOptions.profile?.name ?? "nvme-gen4 (simulated)",
        });
        output.line(table(plan));
        output.line(
          `Context of ${plan.contextLength} tokens, blocks of ${plan.blockTokens}` +
            (plan.pictureLimitPixels > 0
              ? `, pictures of up to ${plan.pictureLimitPixels} pixels.`
              : "."),
        );
        output.line(describeReading(plan, options));
        output.line(describeBudget(plan, budgetBytes));
        if (!fits) process.exitCode = 1;
      }),
    );
}
