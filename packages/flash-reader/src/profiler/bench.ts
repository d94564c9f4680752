import type { Effort } from "./effort.js";
import type { InterleaveOptions } from "./interleave.js";
import type { Random } from "./random.js";
import type { Readers } from "./readers.js";
import type { SteadyReads } from "./steady-reads.js";

/** What every part of the measurement works with. */
export interface Bench {
  readonly readers: Readers;
  readonly reads: SteadyReads;
  readonly effort: Effort;
  readonly random: Random;
}

export type OnFraction = (fraction: number) => void;

/** How long settings of a reader are compared. */
export function sweepRounds({ effort, random }: Bench): InterleaveOptions {
  return {
    rounds: effort.sweepRounds,
    finalRounds: effort.sweepFinalRounds,
    budgetNs: effort.comparisonBudgetNs,
    random,
  };
}
