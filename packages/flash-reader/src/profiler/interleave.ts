import { performance } from "node:perf_hooks";
import type { Random } from "./random.js";
import { median, quantile } from "./statistics.js";

/** One thing to compare: measures itself once and tells the time of its unit of work, ns. */
export type Candidate = () => Promise<number>;

export interface InterleaveOptions {
  /** Rounds in which every candidate takes part. */
  readonly rounds: number;
  /** Further rounds between those that can still win; 0 by default. */
  readonly finalRounds?: number;
  /** After four rounds, no further one is begun once this much time has passed: for devices that are very slow. */
  readonly budgetNs?: number;
  readonly random: Random;
  /** Called after each sample with the share that is done. */
  readonly onFraction?: ((fraction: number) => void) | undefined;
}

/** Fewer, and one disturbance decides. */
const MIN_ROUNDS = 4;
/** Candidates this far behind the best are out of the final rounds: time is better spent on the others. */
const CONTENDER = 0.25;

/**
 * Measures candidates in turn, in a new order each round: on a machine whose speed swings within
 * seconds, only samples that were taken side by side can be compared.
 *
 * @returns [candidates][rounds that it took part in], ns.
 */
export async function interleave(
  candidates: readonly Candidate[],
  options: InterleaveOptions,
): Promise<number[][]> {
  const { rounds, finalRounds = 0, budgetNs = Infinity, random, onFraction } = options;
  const samples: number[][] = candidates.map(() => []);
  // The first run of each only teaches it how long it takes, and the device what comes.
  for (const candidate of candidates) await candidate();
  let contenders = candidates.map((_, index) => index);
  const startedMs = performance.now();
  for (let round = 0; round < rounds + finalRounds; round++) {
    if (round >= MIN_ROUNDS && (performance.now() - startedMs) * 1e6 > budgetNs) break;
    if (round === rounds) {
      const typical = typicalNs(samples);
      const enough = Math.min(...typical) * (1 + CONTENDER);
      contenders = contenders.filter((index) => typical[index] <= enough);
      if (contenders.length === 1) break;
    }
    await measureRound(
      contenders.map((index) => candidates[index]),
      contenders.map((index) => samples[index]),
      random,
      (fraction) => onFraction?.((round + fraction) / (rounds + finalRounds)),
    );
  }
  onFraction?.(1);
  return samples;
}

/** One sample of each candidate, in a random order, appended to its list in `samples`. */
export async function measureRound(
  candidates: readonly Candidate[],
  samples: readonly number[][],
  random: Random,
  onFraction?: (fraction: number) => void,
): Promise<void> {
  let done = 0;
  for (const index of random.order(candidates.length)) {
    samples[index].push(await candidates[index]());
    onFraction?.(++done / candidates.length);
  }
}

/** Effects change by less than 0.1 % after a few sweeps. */
const POLISH_SWEEPS = 4;

/**
 * The typical time of each candidate, with the speed of the machine in each round taken out: a median
 * polish of log(time) into an effect of the candidate and one of the round (Tukey, 1977). A few
 * samples that are far off do no harm, nor does a machine that is slower in some rounds.
 *
 * @param samples [candidates][rounds], ns; a candidate may lack the last rounds, not all may lack one.
 * @returns [candidates], ns, at the speed of the median round.
 */
export function typicalNs(samples: readonly (readonly number[])[]): number[] {
  const logs = samples.map((times) => times.map(Math.log));
  const rounds = Math.max(0, ...logs.map((times) => times.length));
  let typical = logs.map(median);
  for (let sweep = 0; sweep < POLISH_SWEEPS; sweep++) {
    const swing = Array.from({ length: rounds }, (_, round) =>
      median(
        logs.flatMap((times, candidate) =>
          round < times.length ? [times[round] - typical[candidate]] : [],
        ),
      ),
    );
    const middle = median(swing);
    typical = logs.map((times) => median(times.map((time, i) => time - (swing[i] - middle))));
  }
  return typical.map(Math.exp);
}

/** Settings that lie this close to the best count as good (R2). */
export const NEAR_BEST = 0.03;

/** Indices of the times within 3 % of the least, in order. */
export function nearBest(timesNs: readonly number[]): number[] {
  const enough = Math.min(...timesNs) * (1 + NEAR_BEST);
  return timesNs.flatMap((time, index) => (time <= enough ? [index] : []));
}

/** The first setting within 3 % of the best one: the smallest, when settings ascend. */
export function smallestNearBest(settings: readonly number[], timesNs: readonly number[]): number {
  return settings[nearBest(timesNs)[0]];
}

/** The last setting within 3 % of the best one. */
export function largestNearBest(settings: readonly number[], timesNs: readonly number[]): number {
  const near = nearBest(timesNs);
  return settings[near[near.length - 1]];
}

/** Whether the first was faster by more than 3 % in three of four rounds that both took part in. */
export function isClearlyFaster(samples: readonly number[], others: readonly number[]): boolean {
  const rounds = Math.min(samples.length, others.length);
  const ratios = Array.from({ length: rounds }, (_, round) => samples[round] / others[round]);
  return quantile(ratios, 0.75) < 1 / (1 + NEAR_BEST);
}
