import { readFile } from "node:fs/promises";
import {
  VlmExecutor,
  type OpenOptions,
  type Session,
  type StepTrace,
} from "@neuron-chunking/vlm-executor";
import {
  FRAME_TOKENS,
  promptTokens,
  type E2ePhase,
  type ExecutorRequest,
  type ExecutorResult,
  type PhaseResult,
  type Work,
} from "./child-protocol";

/** Tokens of one pass; a frame fits in one. */
const BLOCK_TOKENS = 256;
/** Highest resident memory of this process so far, bytes. */
export async function peakRssBytes(): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? NaN) * 1024;
}

/** Opens the model, runs the phases in turn, and says what each took. */
export async function runExecutor(request: ExecutorRequest): Promise<ExecutorResult> {
  const startedMs = performance.now();
  const model = await VlmExecutor.open(request.imageDir, openOptions(request));
  const openNs = (performance.now() - startedMs) * 1e6;
  try {
    return {
      plannedBytes: model.plan().totalBytes,
      openNs,
      directIo: model.reading.directIo,
      ...(await runPhases(model, request)),
    };
  } finally {
    await model.close();
  }
}

function openOptions(request: ExecutorRequest): OpenOptions {
  const { policy, sparsity, profile, budgetBytes, contextLength, arithmetic } = request;
  return {
    policy,
    ...(policy === "dense" ? {} : { sparsity }),
    profile,
    memoryBudgetBytes: budgetBytes,
    ...(arithmetic === undefined ? {} : { arithmetic }),
    ...executorLimits(contextLength),
  };
}

/** What decides how much memory a model needs at least. */
export function executorLimits(
  contextLength: number,
): Required<Pick<OpenOptions, "contextLength" | "blockTokens">> {
  return { contextLength, blockTokens: Math.min(BLOCK_TOKENS, contextLength) };
}

function meanImportance(steps: readonly StepTrace[]): number {
  const kept = steps.flatMap(({ projections }) => projections.map((p) => p.importanceKept));
  return kept.reduce((sum, value) => sum + value, 0) / Math.max(1, kept.length);
}

async function runPhases(
  model: VlmExecutor,
  request: ExecutorRequest,
): Promise<Pick<ExecutorResult, "phases" | "tokenIds">> {
  const { work } = request;
  const steps: StepTrace[] = [];
  const session = model.createSession({ traceCapacity: 0, onStep: (step) => steps.push(step) });
  const phases: PhaseResult[] = [];
  const tokenIds: number[] = [];
  const measure = async (phase: E2ePhase, task: () => Promise<number>): Promise<void> => {
    steps.length = 0;
    const wallNs = (await task()) * 1e6;
    phases.push({ phase, wallNs, ...summed(steps), peakRssBytes: await peakRssBytes() });
  };
  try {
    await measure("prefill", () => prefill(session, work));
    if (work.frames > 0) await measure("frame", () => appendFrames(session, work));
    if (work.decodeTokens > 0) await measure("decode", () => decode(session, work, tokenIds));
    return { phases, tokenIds };
  } finally {
    session.close();
  }
}

// Each of these returns what its passes took, ms.

async function prefill(session: Session, { prefillTokens }: Work): Promise<number> {
  const startedMs = performance.now();
  await session.appendTokens(promptTokens(prefillTokens));
  return performance.now() - startedMs;
}

async function appendFrames(session: Session, { frames, phaseMs }: Work): Promise<number> {
  const tokenIds = Int32Array.from(promptTokens(FRAME_TOKENS));
  const startedMs = performance.now();
  for (let frame = 0; frame < frames; frame += 1) {
    await session.append({ tokenIds }, "frames");
    if (performance.now() - startedMs > phaseMs) break;
  }
  return performance.now() - startedMs;
}

async function decode(
  session: Session,
  { decodeTokens, phaseMs }: Work,
  tokenIds: number[],
): Promise<number> {
  // Nothing ends it early: all runs are equally long.
  const options = { maxNewTokens: decodeTokens + 1, temperature: 0, stopTokenIds: [] };
  let startedMs = 0;
  let elapsedMs = 0;
  for await (const { id } of session.generate(options)) {
    // The first token follows from the prompt's logits, without a pass.
    if (tokenIds.push(id) === 1) startedMs = performance.now();
    elapsedMs = performance.now() - startedMs;
    if (elapsedMs > phaseMs) break;
  }
  return elapsedMs;
}

type Summed = Omit<PhaseResult, "phase" | "wallNs" | "peakRssBytes">;

function summed(steps: readonly StepTrace[]): Summed {
  const totals = {
    tokens: 0,
    ioNs: 0,
    computeNs: 0,
    selectNs: 0,
    stallNs: 0,
    bytesRead: 0,
    chunks: 0,
  };
  const overlaps: number[] = [];
  for (const { tokens: count, wallNs, projections } of steps) {
    let [ioNs, computeNs] = [0, 0];
    for (const projection of projections) {
      ioNs += projection.readNs;
      computeNs += projection.computeNs;
      totals.selectNs += projection.selectNs;
      totals.stallNs += projection.stallNs;
      totals.bytesRead += projection.bytesRead;
      totals.chunks += projection.chunks;
    }
    totals.tokens += count;
    totals.ioNs += ioNs;
    totals.computeNs += computeNs;
    overlaps.push(wallNs / Math.max(ioNs, computeNs, 1));
  }
  return { ...totals, importanceKept: meanImportance(steps), overlaps };
}
