import { text } from "node:stream/consumers";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import type { Arithmetic } from "@neuron-chunking/vlm-executor";
import { Option, type Command } from "commander";
import { parsePositiveInteger } from "../../options";
import { runVerb } from "../../verbs/run-verb";
import { benchFolder } from "../bench-file";
import { benchE2e } from "./bench-e2e";
import type { ChildRequest } from "./child-protocol";
import { describeE2e } from "./describe";
import { effortOf, SIZES, type Effort, type Size } from "./effort";
import { runExecutor } from "./executor-child";
import { runLlama } from "./llama-child";
import { CHILD_VERB } from "./run-child";

interface E2eOptions {
  json?: boolean;
  tiny?: boolean;
  thorough?: boolean;
  dir?: string;
  size: Size;
  peer: boolean;
  arithmetic: Arithmetic;
  /** KiB */
  peerReadAhead?: number;
}

/** What `bench` lends every bench: its common options, and the profile of the disk. */
export interface BenchParts {
  addBench(bench: Command, name: string, description: string): Command;
  effortName(options: E2eOptions): Effort["name"];
  profileFor(options: E2eOptions, folder: string, signal: AbortSignal): Promise<DeviceProfile>;
}

/** `bench e2e`, and the hidden verb that its cases run in. */
export function registerE2e(bench: Command, parts: BenchParts): void {
  parts
    .addBench(
      bench,
      "e2e",
      "Prefill, frames and decoding of models with random weights, by each policy, and beside llama.cpp.",
    )
    .addOption(
      new Option("--size <model>", "7b writes 15 GB, twice for a comparison, and takes long")
        .choices(SIZES)
        .default("0.5b"),
    )
    .addOption(
      new Option("--arithmetic <way>", "of the policies' products; reduced is lossy")
        .choices(["f32", "reduced"])
        .default("f32"),
    )
    .option("--no-peer", "leave out llama.cpp, which is installed for it into the cache folder")
    .option(
      "--peer-read-ahead <KiB>",
      "as root: what the kernel reads ahead while llama.cpp runs (Linux's default is 128), then as before; may take minutes",
      parsePositiveInteger,
    )
    .action((options: E2eOptions) =>
      runVerb(options, async (output, signal) => {
        const startedMs = performance.now();
        const folder = await benchFolder(options.dir);
        const profile = await parts.profileFor(options, folder, signal);
        const effort = effortOf(parts.effortName(options), options.size);
        const { arithmetic, peer, peerReadAhead } = options;
        const peerReadAheadBytes = peerReadAhead === undefined ? undefined : peerReadAhead * 1024;
        const report = await benchE2e({
          ...{ folder, effort, profile, arithmetic, startedMs, signal },
          ...{ peer, peerReadAheadBytes },
        });
        output.result(report);
        output.line(describeE2e(report));
      }),
    );
  bench.command(CHILD_VERB, { hidden: true }).action(async () => {
    await runVerb({ json: true }, async (output) => {
      const request = JSON.parse(await text(process.stdin)) as ChildRequest;
      output.result(
        request.kind === "executor" ? await runExecutor(request) : await runLlama(request),
      );
    });
    // llama.cpp's threads would keep the process alive.
    process.exit();
  });
}
