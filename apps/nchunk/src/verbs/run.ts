import type { Answer, Phase } from "@neuron-chunking/vlm-executor";
import type { Command } from "commander";
import { parsePositiveInteger, parseSeed, parseTemperature, parseTopP } from "../options";
import { formatBytes, formatNs } from "../terminal/format";
import { addReads, meanChunkRows, noReads, type ReadTotals } from "../totals";
import { addModelOptions, openModel, type ModelOptions } from "./model-options";
import { describeNumerics } from "../describe-numerics";
import { runVerb } from "./run-verb";

const PHASES: readonly Phase[] = ["prefill", "frames", "decode"];

interface RunOptions extends ModelOptions {
  prompt: string;
  image?: string[];
  frames?: string[];
  system?: string;
  chat: boolean;
  maxNewTokens: number;
  temperature: number;
  topP: number;
  seed?: number;
  json?: boolean;
}

/** How rows were chosen, as far as it is not in the policy's name. */
function rule(answer: Answer, options: RunOptions): string {
  const { latencyTarget, qualityTarget, price } = options;
  if (answer.accuracy === "exact" || answer.policy === "dense") return "";
  if (latencyTarget !== undefined) return `, for ${formatNs(latencyTarget)} of reading per pass`;
  if (qualityTarget !== undefined) return `, for an error of ${qualityTarget} per layer`;
  if (price !== undefined) return `, at a price of ${price} per ns`;
  if (answer.policy === "threshold") return "";
  const percent = `${+(answer.sparsity * 100).toFixed(1)} %`;
  if (answer.policy === "lagrange" && answer.pricePerNs !== undefined) {
    return `, one price for the model, for the reading time of topk's importance with ${percent} of rows left out`;
  }
  return answer.policy === "lagrange"
    ? `, at least the importance of topk with ${percent} of rows left out`
    : `, ${percent} of rows left out`;
}

/** Means over passes of what the models say: reading time, and the error where there is a calibration. */
function modelled({ totals }: Answer): { phase: Phase; readNs: number; error: number }[] {
  return PHASES.filter((phase) => totals[phase].steps > 0).map((phase) => {
    const { steps, estimatedReadNs, estimatedError } = totals[phase];
    return { phase, readNs: estimatedReadNs / steps, error: estimatedError / steps };
  });
}

function describeModelled(answer: Answer): string {
  return modelled(answer)
    .map(({ phase, readNs, error }) => {
      const errors = error > 0 ? `, error ${error.toFixed(4)}` : "";
      return `${phase} ${formatNs(readNs)}${errors}`;
    })
    .join("; ");
}

function describeAhead({ bytesAhead, bytesAheadUsed }: ReadTotals): string {
  if (bytesAhead === 0) return "";
  const vain = formatBytes(bytesAhead - bytesAheadUsed);
  return ` (${formatBytes(bytesAhead)} ahead, ${vain} of that in vain)`;
}

function describe(answer: Answer, options: RunOptions, weights: string): string {
  const sum = noReads();
  addReads(sum, answer.totals);
  return (
    `${answer.policy} (${answer.accuracy}${rule(answer, options)}; ${weights}): ` +
    `prompt ${answer.promptTokens} tokens in ${formatNs(answer.prefillNs)}, ` +
    `${answer.tokenIds.length} tokens at ${answer.tokensPerSecond.toFixed(1)} per second; ` +
    `read ${formatBytes(sum.bytesRead)} in ${sum.chunks} chunks of ${meanChunkRows(sum).toFixed(1)} rows${describeAhead(sum)}, ` +
    `I/O ${formatNs(sum.ioNs)}, compute ${formatNs(sum.computeNs)}, waiting for reads ${formatNs(sum.stallNs)}; ` +
    `modelled per pass: ${describeModelled(answer)}` +
    (answer.pricePerNs === undefined ? "" : `; --price ${answer.pricePerNs.toPrecision(3)}`)
  );
}

function machineReadable(answer: Answer): Record<string, unknown> {
  const sum = noReads();
  addReads(sum, answer.totals);
  return {
    answer: answer.text,
    tokenIds: answer.tokenIds,
    finishReason: answer.finishReason,
    promptTokens: answer.promptTokens,
    policy: answer.policy,
    sparsity: answer.sparsity,
    accuracy: answer.accuracy,
    prefillNs: answer.prefillNs,
    decodeNs: answer.decodeNs,
    tokensPerSecond: answer.tokensPerSecond,
    meanChunkRows: meanChunkRows(sum),
    ...sum,
    modelledPerPass: modelled(answer),
    ...(answer.pricePerNs === undefined ? {} : { pricePerNs: answer.pricePerNs }),
    totals: answer.totals,
  };
}

export function registerRun(program: Command): void {
  const command = program
    .command("run")
    .description(
      "Ask a model one question, about pictures or a clip if you give some, and stream the answer.",
    )
    .requiredOption("--prompt <text>", "the question")
    .option("--image <files...>", "pictures the question is about")
    .option("--frames <files...>", "a clip as picture files in order");
  addModelOptions(command, "lagrange")
    .option("--system <text>", "system message")
    .option("--no-chat", "take the prompt as it is, without the chat template")
    .option("--max-new-tokens <count>", "stop after so many tokens", parsePositiveInteger, 256)
    .option("--temperature <value>", "0: greedy; above: sampled", parseTemperature, 0)
    .option(
      "--top-p <fraction>",
      "sample from the most likely tokens of this total probability",
      parseTopP,
      1,
    )
    .option("--seed <number>", "seed of the sampling", parseSeed)
    .option("--json", "print the answer and its figures as JSON")
    .action((options: RunOptions) =>
      runVerb(options, async (output, signal) => {
        const executor = await openModel(options, signal);
        try {
          const stream = executor.ask({
            prompt: options.prompt,
            ...(options.image ? { images: options.image } : {}),
            ...(options.frames ? { videos: [options.frames] } : {}),
            ...(options.system === undefined ? {} : { system: options.system }),
            ...(options.chat ? {} : { chat: false }),
            maxNewTokens: options.maxNewTokens,
            temperature: options.temperature,
            topP: options.topP,
            ...(options.seed === undefined ? {} : { seed: options.seed }),
            signal,
          });
          for await (const { text } of stream) output.write(text);
          const answer = await stream.answer();
          const { weightFormats: weights, rounding } = executor;
          output.result({ ...machineReadable(answer), weights, rounding });
          output.line(`\n\n${describe(answer, options, describeNumerics(executor))}`);
        } finally {
          await executor.close();
        }
      }),
    );
}
