import type { Command } from "commander";
import { NchunkError } from "../errors";
import { parseTokenIds } from "../options";
import { addModelOptions, openModel, type ModelOptions } from "./model-options";
import { describeNumerics } from "../describe-numerics";
import { runVerb } from "./run-verb";

interface LogitsOptions extends ModelOptions {
  prompt?: string;
  tokenIds?: number[];
  image?: string[];
  frames?: string[];
  all?: boolean;
  json?: boolean;
}

const PREVIEW = 10;

function preview(logits: Float32Array): string {
  return Array.from(logits.keys())
    .sort((a, b) => logits[b] - logits[a])
    .slice(0, PREVIEW)
    .map((id) => `${id}\t${logits[id].toFixed(5)}`)
    .join("\n");
}

export function registerLogits(program: Command): void {
  const command = program
    .command("logits")
    .description(
      "Print a model's raw output for a prompt taken as it is, to compare with other implementations.",
    );
  addModelOptions(command, "dense")
    .option("--prompt <text>", "text without chat template; a placeholder for each picture")
    .option("--token-ids <ids>", "token ids separated by commas", parseTokenIds)
    .option("--image <files...>", "pictures for the prompt's placeholders")
    .option("--frames <files...>", "a clip as picture files, for the prompt's video placeholder")
    .option("--all", "every position, not just the last")
    .option("--json", "print { tokenIds, vocabSize, logits } and nothing else")
    .action((options: LogitsOptions) =>
      runVerb(options, async (output, signal) => {
        if ((options.prompt === undefined) === (options.tokenIds === undefined)) {
          throw new NchunkError("INVALID_ARGUMENT", "Give one of --prompt and --token-ids.");
        }
        const executor = await openModel(options, signal);
        try {
          const pixels = {
            // As the reference processor shows several pictures of a prompt that is taken as it is.
            grouping: "independent" as const,
            ...(options.image ? { images: options.image } : {}),
            ...(options.frames ? { videos: [options.frames] } : {}),
            signal,
          };
          const input =
            options.tokenIds === undefined
              ? await executor.prepare({
                  prompt: options.prompt!,
                  chat: false,
                  ...pixels,
                })
              : { tokenIds: options.tokenIds, ...(await executor.preparePixels(pixels)) };
          const result = await executor.logits({ ...input, all: options.all === true, signal });
          output.result({
            tokenIds: result.tokenIds,
            vocabSize: result.vocabSize,
            policy: result.policy,
            accuracy: result.accuracy,
            weights: executor.weightFormats,
            rounding: executor.rounding,
            logits: result.logits.map((row) => Array.from(row)),
          });
          output.line(
            `${result.tokenIds.length} tokens, ${result.policy} (${result.accuracy}; ${describeNumerics(executor)}).`,
          );
          for (const row of result.logits) output.line(`${preview(row)}\n`);
        } finally {
          await executor.close();
        }
      }),
    );
}
