import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { VlmExecutor, type Arithmetic } from "@neuron-chunking/vlm-executor";
import type { ReportProgress } from "../../terminal/progress";
import { median } from "../../statistics";
import type { BenchModel } from "./bench-model";
import {
  FRAME_TOKENS,
  POLICIES,
  type E2ePolicy,
  type ExecutorRequest,
  type ExecutorResult,
  type Work,
} from "./child-protocol";
import { executorLimits } from "./executor-child";
import type { E2eCase } from "./report";
import { runChild } from "./run-child";

/** Share of rows that the lossy policies leave out. */
export const SPARSITY = 0.5;
/** The budget of a case is this share of the model's size, or the least that it can run in. */
const BUDGET_SHARE = 0.5;
/** Runs of the prompt that look for the sparsity at which `chunk` keeps as much importance as `topk`. */
const SPARSITY_TRIES = 2;
/** Importance kept that is near enough. */
const IMPORTANCE_TOLERANCE = 0.01;
const LEAST_SPARSITY = 0.01;
const MOST_SPARSITY = 0.95;
/** Above this a case hangs, whatever the model. */
const CASE_TIMEOUT_MS = 30 * 60_000;

export interface CaseOptions {
  readonly model: BenchModel;
  readonly imageDir: string;
  readonly work: Work;
  readonly profile: DeviceProfile;
  readonly arithmetic: Arithmetic;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/** Positions that all phases need. */
export const contextOf = ({ prefillTokens, frames, decodeTokens }: Work): number =>
  prefillTokens + frames * FRAME_TOKENS + decodeTokens + 1;

/** Every policy in a process of its own. `topk` runs before `chunk`, which is to keep as much importance. */
export async function runCases(
  options: CaseOptions,
): Promise<{ cases: E2eCase[]; overlaps: number[] }> {
  const { model, work, profile, arithmetic, imageDir, report, signal } = options;
  const contextLength = contextOf(work);
  const budgetBytes = await budgetOf(model, imageDir, contextLength);
  const cases: E2eCase[] = [];
  const overlaps: number[] = [];
  const run = (policy: E2ePolicy, sparsity: number, of: Work): Promise<ExecutorResult> =>
    runChild<ExecutorRequest>(
      {
        ...{ kind: "executor", imageDir, policy, sparsity, budgetBytes, contextLength },
        ...{ work: of, profile, arithmetic },
      },
      { signal, timeoutMs: CASE_TIMEOUT_MS },
    );
  let topkImportance = 1;
  for (const [index, policy] of POLICIES.entries()) {
    report(index / POLICIES.length, `${model.shape.name}, ${policy}`);
    let sparsity = policy === "dense" ? 0 : SPARSITY;
    if (policy === "chunk") {
      const prompt = { ...work, frames: 0, decodeTokens: 0 };
      sparsity = await sparsityFor(topkImportance, (at) => run(policy, at, prompt));
    }
    const result = await run(policy, sparsity, work);
    if (policy === "topk") topkImportance = result.phases[0].importanceKept;
    cases.push(...casesOf(model, policy, sparsity, result, budgetBytes));
    overlaps.push(...result.phases.flatMap((phase) => phase.overlaps));
  }
  return { cases, overlaps };
}

/**
 * The sparsity at which the prompt keeps so much importance. All rows keep all of it, and what is lost grows nearly in
 * proportion. Each try has a process of its own, so that no memory of it is counted elsewhere.
 */
async function sparsityFor(
  importance: number,
  tryAt: (sparsity: number) => Promise<ExecutorResult>,
): Promise<number> {
  let sparsity = SPARSITY;
  for (let tries = 0; tries < SPARSITY_TRIES; tries += 1) {
    const { importanceKept } = (await tryAt(sparsity)).phases[0];
    if (Math.abs(importanceKept - importance) < IMPORTANCE_TOLERANCE || importanceKept >= 1) break;
    const scaled = (sparsity * (1 - importance)) / (1 - importanceKept);
    sparsity = Math.min(MOST_SPARSITY, Math.max(LEAST_SPARSITY, scaled));
  }
  return sparsity;
}

/** The same for all policies, so that their memory can be compared. */
async function budgetOf(
  { sizeBytes }: BenchModel,
  imageDir: string,
  contextLength: number,
): Promise<number> {
  const { minimumBytes } = await VlmExecutor.plan(imageDir, executorLimits(contextLength));
  return Math.max(minimumBytes, Math.round(BUDGET_SHARE * sizeBytes));
}

function casesOf(
  { shape }: BenchModel,
  policy: E2ePolicy,
  sparsity: number,
  { phases }: ExecutorResult,
  budgetBytes: number,
): E2eCase[] {
  return phases.map(({ overlaps, phase, ...sums }) => ({
    model: shape.name,
    phase,
    policy,
    ...sums,
    tokensPerSecond: sums.tokens / (sums.wallNs / 1e9),
    sparsity,
    overlap: median(overlaps),
    budgetBytes,
  }));
}
