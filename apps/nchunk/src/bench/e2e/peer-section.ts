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
import type { ReadAhead } from "./read-ahead";
import type { PeerCase } from "./report";
import { ChildFailure, runChild, type ChildOptions } from "./run-child";

export const MEMORY_FRACTIONS = [0.25, 0.5, 0.75] as const;
/** What `nchunk run` uses where answers may be approximate. */
const LOSSY_POLICY: E2ePolicy = "lagrange";
/** The limit is the budget and this much more. */
const LIMIT_TO_BUDGET = 1.05;
/** Opening and one token must be possible in this; a multiple of the time that decoding may take. */
const TIMEOUT_PHASES = 10;
/** The same where it was asked for that little is read ahead: each token may take half a minute. */
const LEAST_PAGING_TIMEOUT_MS = 5 * 60_000;
/** A round may take so much longer than the last. */
const ROUND_SLACK = 1.1;
/** Starting, opening and the prompt; with this left over, a token or two are decoded. */
const RUN_OVERHEAD_MS = 1500;
const LEAST_PHASE_MS = 300;

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
  readonly readAhead: ReadAhead;
  /** What the kernel is to read ahead while llama.cpp runs; undefined: as the system has it. */
  readonly peerReadAheadBytes: number | undefined;
  /** Time that is left for the comparison. */
  readonly remainingMs: () => number;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

type Contender = "ours" | "oursDense" | "theirs";

interface Decoded {
  readonly tokensPerSecond: number;
  readonly peakBytes: number | undefined;
  /** Of llama.cpp's runs, where it is known. */
  readonly readAheadBytes: number | null;
}

/** One limit and what has come of it so far. */
interface Limit {
  readonly memoryFraction: number;
  readonly bytes: number;
  readonly decoded: Record<Contender, Decoded[]>;
  readonly reasons: Set<string>;
  rounds: number;
}

/** Rounds of every limit, smallest first, so that all of them get the same care; a second round only where it fits. */
export async function runPeer(options: PeerOptions): Promise<PeerCase[]> {
  const { model, rounds, remainingMs } = options;
  const limits = MEMORY_FRACTIONS.map((memoryFraction): Limit => ({
    memoryFraction,
    bytes: Math.round(memoryFraction * model.sizeBytes),
    decoded: { ours: [], oursDense: [], theirs: [] },
    reasons: new Set(),
    rounds: 0,
  }));
  let lastRoundMs = 0;
  for (let round = 0; round < rounds && ROUND_SLACK * lastRoundMs < remainingMs(); round += 1) {
    const startedMs = performance.now();
    for (const [index, limit] of limits.entries()) {
      const { memoryFraction } = limit;
      options.report(
        (round + index / limits.length) / rounds,
        `beside llama.cpp in ${memoryFraction * 100} % of the model's size`,
      );
      if (remainingMs() > 0) await runRound(limit, round, limits.length - index, options);
    }
    lastRoundMs = performance.now() - startedMs;
  }
  return limits.map((limit) => peerCase(limit, model.shape.name));
}

/** All contenders once, in what is their part of the time that is left for this round. */
async function runRound(
  limit: Limit,
  round: number,
  limitsLeft: number,
  options: PeerOptions,
): Promise<void> {
  const { withDense, remainingMs, work } = options;
  const contenders: Contender[] = withDense ? ["ours", "oursDense", "theirs"] : ["ours", "theirs"];
  let runsLeft = contenders.length * limitsLeft;
  for (const contender of alternatingOrder(contenders, round)) {
    const partMs = remainingMs() / runsLeft - RUN_OVERHEAD_MS;
    const phaseMs = Math.max(LEAST_PHASE_MS, Math.min(work.phaseMs, partMs));
    runsLeft -= 1;
    const result = await decodeUnder(limit.bytes, contender, {
      ...options,
      work: { ...work, phaseMs },
      timeoutMs: Math.max(
        TIMEOUT_PHASES * work.phaseMs,
        options.peerReadAheadBytes === undefined ? 0 : LEAST_PAGING_TIMEOUT_MS,
      ),
    });
    if ("reason" in result) limit.reasons.add(`${contender}: ${result.reason}`);
    else limit.decoded[contender].push(result);
  }
  limit.rounds += 1;
}

function peerCase(limit: Limit, model: string): PeerCase {
  const { decoded, rounds } = limit;
  const reasons = rounds === 0 ? [NO_TIME_LEFT] : [...limit.reasons];
  const speed = (contender: Contender): number | null =>
    middle(decoded[contender].map(({ tokensPerSecond }) => tokensPerSecond));
  const ratio = (contender: Contender): number | null => {
    const [own, their] = [speed(contender), speed("theirs")];
    return own === null || their === null ? null : own / their;
  };
  return {
    model,
    memoryFraction: limit.memoryFraction,
    limitBytes: limit.bytes,
    policy: LOSSY_POLICY,
    ours: speed("ours"),
    theirs: speed("theirs"),
    ratio: ratio("ours"),
    oursDense: speed("oursDense"),
    ratioDense: ratio("oursDense"),
    oursPeakBytes: peak(decoded.ours),
    theirsPeakBytes: peak(decoded.theirs),
    readAheadBytes: decoded.theirs.at(0)?.readAheadBytes ?? null,
    rounds,
    ...(reasons.length > 0 ? { reason: reasons.join(" ") } : {}),
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
  options: PeerOptions & { timeoutMs: number },
): Promise<Decoded | { reason: string }> {
  const { group, signal, timeoutMs } = options;
  await dropModelPages(options);
  await group.setLimit(limitBytes);
  try {
    const how = { signal, timeoutMs, group };
    const decoded =
      contender === "theirs"
        ? await peerRate(options, how)
        : await ownRate(ownRequest(limitBytes, contender, options), how);
    return { ...decoded, peakBytes: await group.peakBytes() };
  } catch (error) {
    if (!(error instanceof ChildFailure)) throw error;
    const kills = await group.oomKills();
    return { reason: kills > 0 ? "It was killed for lack of memory." : error.message };
  }
}

type Rate = Pick<Decoded, "tokensPerSecond" | "readAheadBytes">;

async function ownRate(request: ExecutorRequest, how: ChildOptions): Promise<Rate> {
  const { phases } = await runChild(request, how);
  const decode = phases[phases.length - 1];
  return { tokensPerSecond: decode.tokens / (decode.wallNs / 1e9), readAheadBytes: null };
}

function peerRate(options: PeerOptions, how: ChildOptions): Promise<Rate> {
  const { readAhead, peerReadAheadBytes } = options;
  return readAhead.during(peerReadAheadBytes, async () => {
    const readAheadBytes = await readAhead.bytes();
    const { decodeNs } = await runChild(llamaRequest(options), how);
    return { tokensPerSecond: rate(decodeNs), readAheadBytes };
  });
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
