import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { VlmExecutor } from "@neuron-chunking/vlm-executor";
import { addReads, meanChunkRows, noReads } from "../totals";
import type { Output } from "../terminal/output";
import { visuals, type Prompt } from "../prompts";
import { isRight } from "./is-right";

/** Share of rows left out by the lossy policies: what a model this small can spare. */
export const DEMO_SPARSITY = 0.3;
/**
 * Chunk sizes that `chunk` tries. Its own choice goes up to the disk's saturation size, which is larger than a whole
 * matrix of this model, and the one chunk it would pick says nothing about the input.
 */
const CHUNK_SIZES = { minKiB: 2, stepKiB: 2, maxKiB: 8, jumpKiB: 2 };
/** Answers are a word or a short phrase; a caption fits too. */
const MAX_ANSWER_TOKENS = 64;
/** Enough for a clip and its question; the KV cache is allocated at this size. */
const CONTEXT_LENGTH = 512;

export const DEMO_POLICIES = ["dense", "topk", "chunk", "lagrange"] as const;
export type DemoPolicy = (typeof DEMO_POLICIES)[number];

/** All questions under one policy. Times and bytes are sums over the questions, prompt and answer. */
export interface PolicyRun {
  policy: DemoPolicy;
  exact: boolean;
  directIo: boolean;
  questions: number;
  correct: number;
  bytesRead: number;
  chunks: number;
  meanChunkRows: number;
  ioNs: number;
  tokensPerSecond: number;
  answers: { id: string; prompt: string; expected: string; answer: string; right: boolean }[];
}

/** Asks every question under `policy`, streaming each answer to `output`. */
export async function runPolicy(
  policy: DemoPolicy,
  imageDir: string,
  questions: Prompt[],
  profile: DeviceProfile,
  output: Output,
  signal: AbortSignal,
): Promise<PolicyRun> {
  const executor = await VlmExecutor.open(imageDir, {
    policy,
    sparsity: DEMO_SPARSITY,
    hyperparameters: CHUNK_SIZES,
    profile,
    contextLength: CONTEXT_LENGTH,
    signal,
  });
  try {
    const sum = noReads();
    const answers: PolicyRun["answers"] = [];
    let tokens = 0;
    let decodeNs = 0;
    let exact = true;
    for (const question of questions) {
      const { id, prompt, answer: expected = "" } = question;
      const about = question.image ? "picture" : "clip";
      output.write(`  ${about} ${id}: ${prompt}  `);
      const stream = executor.ask({
        prompt,
        ...visuals(question),
        maxNewTokens: MAX_ANSWER_TOKENS,
        signal,
      });
      for await (const { text } of stream) output.write(text);
      const answer = await stream.answer();
      const right = isRight(answer.text, expected);
      output.line(right ? "  (right)" : `  (wrong: ${expected})`);
      answers.push({ id, prompt, expected, answer: answer.text, right });
      addReads(sum, answer.totals);
      tokens += answer.tokenIds.length;
      decodeNs += answer.decodeNs;
      exact &&= answer.accuracy === "exact";
    }
    return {
      policy,
      exact,
      directIo: executor.reading.directIo,
      questions: questions.length,
      correct: answers.filter(({ right }) => right).length,
      bytesRead: sum.bytesRead,
      chunks: sum.chunks,
      meanChunkRows: meanChunkRows(sum),
      ioNs: sum.ioNs,
      tokensPerSecond: decodeNs > 0 ? (tokens / decodeNs) * 1e9 : 0,
      answers,
    };
  } finally {
    await executor.close();
  }
}
