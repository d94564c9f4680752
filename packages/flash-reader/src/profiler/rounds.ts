import type { ProfileRound } from "@neuron-chunking/latency-model";
import { median } from "./statistics.js";

/** A round that deviates more than this is mentioned (P2). */
export const FLAG_DEVIATION = 0.03;
/** One that deviates more than this is measured again (P2). */
export const REJECT_DEVIATION = 0.2;
/** With fewer good rounds than this no round is an exception: all of them count. */
const MIN_ACCEPTED = 3;

/**
 * How far each round was from the others (P2).
 *
 * @param samples [candidates][rounds], ns.
 */
export function judgeRounds(samples: readonly (readonly number[])[]): ProfileRound[] {
  const middles = samples.map(median);
  return samples[0].map((_, round) => {
    const deviation = median(
      samples.map((times, candidate) => Math.abs(times[round] / middles[candidate] - 1)),
    );
    return {
      deviation,
      flagged: deviation > FLAG_DEVIATION,
      rejected: deviation > REJECT_DEVIATION,
    };
  });
}

/** How many rounds have to be measured yet until `wanted` are good. */
export function missingRounds(rounds: readonly ProfileRound[], wanted: number): number {
  return Math.max(0, wanted - rounds.filter((round) => !round.rejected).length);
}

export interface AcceptedRounds {
  /** [candidates][rounds that count], ns. */
  readonly samples: readonly (readonly number[])[];
  /** True when so many rounds deviate that all of them count: the machine is never steady. */
  readonly unsteady: boolean;
}

export function acceptedRounds(
  samples: readonly (readonly number[])[],
  rounds: readonly ProfileRound[],
): AcceptedRounds {
  const unsteady = rounds.filter((round) => !round.rejected).length < MIN_ACCEPTED;
  if (unsteady) return { samples, unsteady };
  return {
    samples: samples.map((times) => times.filter((_, round) => !rounds[round].rejected)),
    unsteady,
  };
}
