import type { KernelBench, KernelCase } from "@neuron-chunking/vlm-executor";
import { median } from "../../statistics";
import type { NamedCase } from "./cases";
import type { KernelEffort } from "./effort";

/** What a case is held against: reading its bytes, the peer's product of its shape, or multiply-adds in registers. */
export type LimitName = "stream" | "peer" | "multiplyAdd";

export interface MeasuredCase {
  readonly op: string;
  readonly dtype: string;
  readonly target: string;
  readonly threads: number;
  readonly t: number;
  readonly k: number;
  readonly n: number;
  /** Median of the rounds. */
  readonly ns: number;
  readonly gbps: number;
  readonly gflops: number;
  /**
   * 1 is the limit: the median of the rounds' own ratios, so that drift of the machine cancels. Against the peer the ratio of the
   * best rounds: its threads wait for each other, and other work on the machine would count against it many times over.
   */
  readonly fractionOfLimit: number;
  readonly limit: LimitName;
  readonly model: string;
  readonly rounds: number;
  /** Of streaming reads in the same rounds. */
  readonly streamGbps: number;
  readonly multiplyAddGflops: number;
  /** The peer's best on the same shape with f32 weights and nothing else to do; null without a peer or where it does not apply. */
  readonly peerGflops: number | null;
}

/** From this many tokens on arithmetic is what bounds a product. */
const ARITHMETIC_TOKENS = 16;

/** The peer's threads go on spinning for a while after a call; nothing of ours is timed meanwhile. */
const PEER_REST_MS = 2;

interface RoundTimes {
  readonly ns: number;
  /** Bytes per ns. */
  readonly streamGbps: number;
  readonly multiplyAddGflops: number;
  readonly peerNs: number | null;
}

const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function runRound(
  bench: KernelBench,
  prepared: KernelCase,
  effort: KernelEffort,
  hasPeer: boolean,
  round: number,
): Promise<RoundTimes> {
  const { streamBytes, multiplyAddIterations } = effort;
  const stream = (): number => streamBytes / bench.stream(round, streamBytes);
  // Who begins changes with the round.
  const isFirst = round % 2 === 0;
  const before = isFirst ? stream() : null;
  const ns = prepared.run(round);
  const streamGbps = before ?? stream();
  const multiplyAddGflops = bench.multiplyAdd(multiplyAddIterations);
  if (!hasPeer || prepared.peer === null)
    return { ns, streamGbps, multiplyAddGflops, peerNs: null };
  // The first call wakes the peer's threads.
  prepared.peer(round + 1);
  const peerNs = prepared.peer(round);
  await rest(PEER_REST_MS);
  return { ns, streamGbps, multiplyAddGflops, peerNs };
}

/** Which limit holds for a case: weights and caches that are read once, or arithmetic. */
function limitOf({ spec }: NamedCase, hasPeer: boolean): LimitName {
  const isNorm = spec.op === "rmsNorm" || spec.op === "layerNorm";
  if (isNorm || spec.t < ARITHMETIC_TOKENS) return "stream";
  return hasPeer ? "peer" : "multiplyAdd";
}

const least = (values: readonly (number | null)[]): number =>
  Math.min(...values.map((value) => value ?? Infinity));

function fractionOf(limit: LimitName, prepared: KernelCase, rounds: readonly RoundTimes[]): number {
  const { bytes, flops } = prepared;
  switch (limit) {
    case "peer":
      return least(rounds.map(({ peerNs }) => peerNs)) / least(rounds.map(({ ns }) => ns));
    case "stream":
      return median(rounds.map(({ ns, streamGbps }) => bytes / ns / streamGbps));
    case "multiplyAdd":
      return median(rounds.map(({ ns, multiplyAddGflops }) => flops / ns / multiplyAddGflops));
  }
}

/**
 * Runs one case in rounds, each beside the limits, until it has had its rounds or its time.
 *
 * @param shareMs Time for the rounds beyond the least.
 */
export async function measureCase(
  bench: KernelBench,
  one: NamedCase,
  effort: KernelEffort,
  where: { target: string; threads: number },
  shareMs: number,
): Promise<MeasuredCase> {
  const { spec, op, dtype, model } = one;
  const prepared = bench.prepare(spec);
  const hasPeer = prepared.peer !== null && spec.t >= ARITHMETIC_TOKENS;
  const limit = limitOf(one, hasPeer);
  prepared.run(0);
  const endsMs = performance.now() + shareMs;
  const rounds: RoundTimes[] = [];
  while (
    rounds.length < effort.minRounds ||
    (rounds.length < effort.maxRounds && performance.now() < endsMs)
  ) {
    rounds.push(await runRound(bench, prepared, effort, hasPeer, rounds.length + 1));
  }
  const ns = median(rounds.map((round) => round.ns));
  return {
    op,
    dtype,
    ...where,
    t: spec.t,
    k: spec.k,
    n: spec.n,
    ns,
    gbps: prepared.bytes / ns,
    gflops: prepared.flops / ns,
    fractionOfLimit: fractionOf(limit, prepared, rounds),
    limit,
    model,
    rounds: rounds.length,
    streamGbps: median(rounds.map((round) => round.streamGbps)),
    multiplyAddGflops: median(rounds.map((round) => round.multiplyAddGflops)),
    peerGflops: hasPeer ? prepared.flops / least(rounds.map(({ peerNs }) => peerNs)) : null,
  };
}
