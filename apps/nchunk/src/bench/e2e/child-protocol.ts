import type { DeviceProfile } from "@neuron-chunking/latency-model";
import type { Arithmetic } from "@neuron-chunking/vlm-executor";

export const POLICIES = ["dense", "topk", "chunk", "lagrange"] as const;
export type E2ePolicy = (typeof POLICIES)[number];
export type E2ePhase = "prefill" | "frame" | "decode";

/** How many tokens go through the model. */
export interface Work {
  readonly prefillTokens: number;
  /** Frames of {@link FRAME_TOKENS} tokens, each appended in a pass of its own. */
  readonly frames: number;
  readonly decodeTokens: number;
  /** No further token is decoded, and no further frame appended, after so long. */
  readonly phaseMs: number;
}

/** One frame's tokens in LLaVA-OneVision: 27 x 27 patches, pooled to 14 x 14. */
export const FRAME_TOKENS = 196;

/** Token numbers of prompts are below this, so that every vocabulary has them. */
const TOKEN_NUMBERS = 256;

/** The prompt, and a frame's stand-in: what it says does not matter for what it takes. */
export const promptTokens = (count: number): number[] =>
  Array.from({ length: count }, (_, index) => (index * 37 + 1) % TOKEN_NUMBERS);

/** Runs our executor over one model with one policy. */
export interface ExecutorRequest {
  readonly kind: "executor";
  readonly imageDir: string;
  readonly policy: E2ePolicy;
  readonly sparsity: number;
  readonly budgetBytes: number;
  readonly arithmetic?: Arithmetic;
  readonly contextLength: number;
  readonly work: Work;
  readonly profile: DeviceProfile;
}

/** Runs llama.cpp over one GGUF file. */
export interface LlamaRequest {
  readonly kind: "llama";
  /** Folder that node-llama-cpp is installed in. */
  readonly moduleDir: string;
  readonly file: string;
  readonly contextLength: number;
  readonly threads: number;
  readonly work: Work;
}

export type ChildRequest = ExecutorRequest | LlamaRequest;

export interface PhaseResult {
  readonly phase: E2ePhase;
  readonly tokens: number;
  /** From the call to its answer, output head included. */
  readonly wallNs: number;
  readonly ioNs: number;
  readonly computeNs: number;
  readonly selectNs: number;
  readonly stallNs: number;
  readonly bytesRead: number;
  readonly chunks: number;
  /** Mean over matrices and passes of the input's importance that the rows read hold, 0 to 1. */
  readonly importanceKept: number;
  /** Of each pass: its wall time over the larger of its reading and its computing. */
  readonly overlaps: readonly number[];
  /** Highest resident memory of the process up to the end of this phase. */
  readonly peakRssBytes: number;
}

export interface ExecutorResult {
  /** Resident weights, KV cache and buffers by the model's own account. */
  readonly plannedBytes: number;
  readonly openNs: number;
  readonly directIo: boolean;
  /** What was decoded, greedily. */
  readonly tokenIds: readonly number[];
  readonly phases: readonly PhaseResult[];
}

export interface LlamaResult {
  readonly loadNs: number;
  readonly prefillNs: number;
  /** Of each token. */
  readonly decodeNs: readonly number[];
  readonly tokenIds: readonly number[];
  readonly peakRssBytes: number;
  readonly memoryMapped: boolean;
}

export type ResultOf<R extends ChildRequest> = R extends ExecutorRequest
  ? ExecutorResult
  : LlamaResult;
