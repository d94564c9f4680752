import os from "node:os";
import path from "node:path";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { median } from "../../statistics";
import type { ReportProgress } from "../../terminal/progress";
import { alternatingOrder } from "../alternating";
import { dropCachedPages } from "../bench-file";
import type { BenchModel } from "./bench-model";
import { contextOf, SPARSITY } from "./case-section";
import type { E2ePolicy, ExecutorRequest, LlamaRequest, Work } from "./child-protocol";
import type { MemoryCgroup } from "./memory-cgroup";
import type { PeerCase } from "./report";
import { ChildFailure, runChild } from "./run-child";

export const MEMORY_FRACTIONS = [0.25, 0.5, 0.75] as const;
/** What `nchunk run` uses where answers may be approximate. */
const LOSSY_POLICY: E2ePolicy = "lagrange";
/** The limit is the budget and this much more. */
const LIMIT_TO_BUDGET = 1.05;
/** Opening and one token must be possible in this; a multiple of the time that decoding may take. */
const TIMEOUT_PHASES = 10;

/** Why a comparison is missing in a run that must end soon. */
export const NO_TIME_LEFT =
  "There was no time left: run it again, as what was written and installed is kept, or use --thorough.";

export interface PeerOptions {
  readonly model: BenchModel;
  readonly imageDir: string;
  readonly ggufFile: string;
  readonly moduleDir: string;
  readonly group: MemoryCgroup;
  readonly work: Work;
  readonly rounds: number;
  readonly withDense: boolean;
  readonly profile: DeviceProfile;
  /** Whether there is time for one more comparison. */
  readonly hasTime: () => boolean;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

type Contender = "ours" | "oursDense" | "theirs";

interface Decoded {
  readonly tokensPerSecond: number;
  readonly peakBytes: number | undefined;
}

/** Every limit, smallest first. */
export async function runPeer(options: PeerOptions): Promise<PeerCase[]> {
  const cases: PeerCase[] = [];
  for (const [index, memoryFraction] of MEMORY_FRACTIONS.entries()) {
    options.report(
      index / MEMORY_FRACTIONS.length,
      `beside llama.cpp in ${memoryFraction * 100} % of the model's size`,
    );
    cases.push(await compareAt(memoryFraction, options));
  }
  return cases;
}

async function compareAt(memoryFraction: number, options: PeerOptions): Promise<PeerCase> {
  const { model, rounds, withDense, hasTime } = options;
  const limitBytes = Math.round(memoryFraction * model.sizeBytes);
  const contenders: Contender[] = withDense ? ["ours", "oursDense", "theirs"] : ["ours", "theirs"];
  const decoded: Record<Contender, Decoded[]> = { ours: [], oursDense: [], theirs: [] };
  const reasons = new Set<string>();
  let done = 0;
  for (; done < rounds && hasTime(); done += 1) {
    for (const contender of alternatingOrder(contenders, done)) {
      const result = await decodeUnder(limitBytes, contender, options);
      if ("reason" in result) reasons.add(`${contender}: ${result.reason}`);
      else decoded[contender].push(result);
    }
  }
  if (done === 0) reasons.add(NO_TIME_LEFT);
  const speed = (contender: Contender): number | null =>
    middle(decoded[contender].map(({ tokensPerSecond }) => tokensPerSecond));
  const ratio = (contender: Contender): number | null => {
    const [own, their] = [speed(contender), speed("theirs")];
    return own === null || their === null ? null : own / their;
  };
  return {
    model: model.shape.name,
    memoryFraction,
    limitBytes,
    policy: LOSSY_POLICY,
    ours: speed("ours"),
    theirs: speed("theirs"),
    ratio: ratio("ours"),
    oursDense: speed("oursDense"),
    ratioDense: ratio("oursDense"),
    oursPeakBytes: peak(decoded.ours),
    theirsPeakBytes: peak(decoded.theirs),
    rounds: done,
    ...(reasons.size > 0 ? { reason: [...reasons].join(" ") } : {}),
  };
}

const middle = (values: readonly number[]): number | null =>
  values.length > 0 ? median(values) : null;

function peak(runs: readonly Decoded[]): number | null {
  const known = runs.map(({ peakBytes }) => peakBytes).filter((bytes) => bytes !== undefined);
  return known.length > 0 ? Math.max(...known) : null;
}

/** One run from a cold cache in a group of its own. */
async function decodeUnder(
  limitBytes: number,
  contender: Contender,
  options: PeerOptions,
): Promise<Decoded | { reason: string }> {
  const { group, signal, work } = options;
  await dropModelPages(options);
  await group.setLimit(limitBytes);
  const timeoutMs = TIMEOUT_PHASES * work.phaseMs;
  try {
    const tokensPerSecond =
      contender === "theirs"
        ? rate((await runChild(llamaRequest(options), { signal, timeoutMs, group })).decodeNs)
        : await ownRate(ownRequest(limitBytes, contender, options), { signal, timeoutMs, group });
    return { tokensPerSecond, peakBytes: await group.peakBytes() };
  } catch (error) {
    if (!(error instanceof ChildFailure)) throw error;
    const kills = await group.oomKills();
    return { reason: kills > 0 ? "It was killed for lack of memory." : error.message };
  }
}

async function ownRate(
  request: ExecutorRequest,
  how: { signal: AbortSignal; timeoutMs: number; group: MemoryCgroup },
): Promise<number> {
  const { phases } = await runChild(request, how);
  const decode = phases[phases.length - 1];
  return decode.tokens / (decode.wallNs / 1e9);
}

const rate = (tokensNs: readonly number[]): number =>
  tokensNs.length / (tokensNs.reduce((sum, ns) => sum + ns, 0) / 1e9);

function ownRequest(
  limitBytes: number,
  contender: Exclude<Contender, "theirs">,
  { imageDir, work, profile }: PeerOptions,
): ExecutorRequest {
  const policy = contender === "ours" ? LOSSY_POLICY : "dense";
  return {
    kind: "executor",
    imageDir,
    policy,
    sparsity: policy === "dense" ? 0 : SPARSITY,
    budgetBytes: Math.floor(limitBytes / LIMIT_TO_BUDGET),
    contextLength: contextOf(work),
    work,
    profile,
  };
}

/** llama.cpp pads contexts to a multiple of 256 itself. */
function llamaRequest({ moduleDir, ggufFile, work }: PeerOptions): LlamaRequest {
  return {
    kind: "llama",
    moduleDir,
    file: ggufFile,
    contextLength: contextOf(work),
    threads: os.availableParallelism(),
    work,
  };
}

/** So that a run reads from the disk and is charged for what it caches. */
async function dropModelPages({ imageDir, ggufFile, model }: PeerOptions): Promise<void> {
  const images = ["flash.safetensors", "resident.safetensors"].map((name) =>
    path.join(imageDir, name),
  );
  for (const file of [ggufFile, ...images]) {
    const [folder, name] = [path.dirname(file), path.basename(file)];
    await dropCachedPages({ folder, name, path: file, sizeBytes: model.sizeBytes });
  }
}
