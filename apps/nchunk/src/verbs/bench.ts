import { simulatedDevice, type DeviceProfile } from "@neuron-chunking/latency-model";
import { Option, type Command } from "commander";
import { benchFolder } from "../bench/bench-file";
import { registerE2e } from "../bench/e2e/register";
import { benchIo } from "../bench/io/bench-io";
import { describeIo } from "../bench/io/describe";
import { IO_EFFORTS } from "../bench/io/effort";
import { benchKernels } from "../bench/kernels/bench-kernels";
import { describeKernels } from "../bench/kernels/describe";
import { KERNEL_EFFORTS } from "../bench/kernels/effort";
import { benchLatencyModel } from "../bench/latency-model/bench-latency-model";
import { describeLatencyModel } from "../bench/latency-model/describe";
import { MODEL_EFFORTS } from "../bench/latency-model/effort";
import { benchReader } from "../bench/reader/bench-reader";
import { describeReader } from "../bench/reader/describe";
import { EFFORTS } from "../bench/reader/effort";
import { benchSelector } from "../bench/selector/bench-selector";
import { describeSelector } from "../bench/selector/describe";
import { SELECTOR_EFFORTS } from "../bench/selector/effort";
import { cacheFolder } from "../cache";
import { profileOf } from "../device-profile";
import { requireWritable, writeText } from "../html-page/output-file";
import type { Output } from "../terminal/output";
import { runVerb } from "./run-verb";

interface BenchOptions {
  json?: boolean;
  thorough?: boolean;
  tiny?: boolean;
  dir?: string;
  html?: string;
}

const effortName = ({ thorough, tiny }: BenchOptions): "tiny" | "thorough" | "default" =>
  tiny ? "tiny" : thorough ? "thorough" : "default";

/** The measured profile of the disk; a tiny run must not wait for one, and says nothing about speed. */
async function profileFor(
  options: BenchOptions,
  folder: string,
  signal: AbortSignal,
): Promise<DeviceProfile> {
  if (options.tiny) return simulatedDevice("nvme-gen4");
  // Without --dir the probe file of the other verbs serves.
  const directory = options.dir === undefined ? await cacheFolder("probe") : folder;
  return (await profileOf(directory, signal)).profile;
}

function addBench(bench: Command, name: string, description: string): Command {
  return bench
    .command(name)
    .description(description)
    .option("--thorough", "take minutes instead of less than one")
    .option("--dir <folder>", "a folder on the disk to measure (default: the cache folder)")
    .option("--json", "print the figures as JSON")
    .addOption(new Option("--tiny", "a few seconds, for tests").hideHelp());
}

export function registerBench(program: Command): void {
  const bench = program.command("bench").description("Measure this project on this machine.");
  addBench(
    bench,
    "reader",
    "Compare the reader with fio and with Node's own reads, on the same file in turn.",
  ).action((options: BenchOptions) =>
    runVerb(options, async (output, signal) => {
      const folder = await benchFolder(options.dir);
      const profile = await profileFor(options, folder, signal);
      const effort = EFFORTS[effortName(options)];
      const report = await benchReader({ folder, effort, profile, signal });
      output.result(report);
      output.line(describeReader(report));
    }),
  );
  addBench(
    bench,
    "latency-model",
    "Compare what the latency models predict for masks of rows with what reading them takes.",
  ).action((options: BenchOptions) =>
    runVerb(options, async (output, signal) => {
      const folder = await benchFolder(options.dir);
      const profile = await profileFor(options, folder, signal);
      const effort = MODEL_EFFORTS[effortName(options)];
      const report = await benchLatencyModel({ folder, effort, profile, signal });
      output.result(report);
      output.line(describeLatencyModel(report));
    }),
  );
  addBench(
    bench,
    "io",
    "Read what each policy selects of real models' matrices, at equal importance, beside top-k.",
  ).action((options: BenchOptions) =>
    runVerb(options, async (output, signal) => {
      const startedMs = performance.now();
      const folder = await benchFolder(options.dir);
      const profile = await profileFor(options, folder, signal);
      const effort = IO_EFFORTS[effortName(options)];
      const report = await benchIo({ folder, effort, profile, startedMs, signal });
      output.result(report);
      output.line(describeIo(report));
    }),
  );
  addBench(
    bench,
    "kernels",
    "Time the arithmetic beside what memory, multiply-adds and a BLAS of the system reach.",
  ).action((options: BenchOptions) =>
    runVerb(options, async (output, signal) => {
      const report = await benchKernels({ effort: KERNEL_EFFORTS[effortName(options)], signal });
      output.result(report);
      output.line(describeKernels(report));
    }),
  );
  addBench(
    bench,
    "selector",
    "Compare the policies by modelled latency at equal importance, and time their selections.",
  )
    .option("--html <file>", "also write a page with charts, which needs nothing else")
    .action((options: BenchOptions) => runVerb(options, (...how) => runSelector(options, ...how)));
  registerE2e(bench, { addBench, effortName, profileFor });
}

/** What the page draws masks for when this machine's disk is not measured. */
const DRAWN_DEVICE = "orin-nano";

async function runSelector(
  options: BenchOptions,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const startedMs = performance.now();
  // What is wrong with the file to write is said before anything is measured.
  if (options.html !== undefined) await requireWritable(options.html);
  const folder = await benchFolder(options.dir);
  const profile = options.tiny ? undefined : await profileFor(options, folder, signal);
  const effort = SELECTOR_EFFORTS[effortName(options)];
  const report = await benchSelector({ effort, profile, startedMs, signal });
  if (options.html !== undefined) {
    // Loaded only here: drawing needs libraries that no other bench should wait for.
    const { renderSelectorPage } = await import("../bench/selector/page");
    await writeText(
      options.html,
      renderSelectorPage(report, profile ?? simulatedDevice(DRAWN_DEVICE)),
    );
  }
  output.result(report);
  output.line(describeSelector(report));
}
