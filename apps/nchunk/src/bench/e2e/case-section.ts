import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { VlmExecutor } from "@neuron-chunking/vlm-executor";
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
/** Above this a case hangs, whatever the model. */
const CASE_TIMEOUT_MS = 30 * 60_000;

export interface CaseOptions {
  readonly model: BenchModel;
  readonly imageDir: string;
  readonly work: Work;
  readonly profile: DeviceProfile;
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
  const { model, work, profile, imageDir, report, signal } = options;
  const contextLength = contextOf(work);
  const budgetBytes = await budgetOf(model, imageDir, contextLength);
  const cases: E2eCase[] = [];
  const overlaps: number[] = [];
  let importanceTarget: number | undefined;
  for (const [index, policy] of POLICIES.entries()) {
    report(index / POLICIES.length, `${model.shape.name}, ${policy}`);
    const request: ExecutorRequest = {
      kind: "executor",
      imageDir,
      policy,
      sparsity: policy === "dense" ? 0 : SPARSITY,
      ...(importanceTarget === undefined ? {} : { importanceTarget }),
      budgetBytes,
      contextLength,
      work,
      profile,
    };
    const result = await runChild(request, { signal, timeoutMs: CASE_TIMEOUT_MS });
    // Of the prompt, by which `chunk` looks for its sparsity.
    if (policy === "topk") importanceTarget = result.phases[0].importanceKept;
    cases.push(...casesOf(model, policy, result, budgetBytes));
    overlaps.push(...result.phases.flatMap((phase) => phase.overlaps));
  }
  return { cases, overlaps };
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
  { phases, sparsity }: ExecutorResult,
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
