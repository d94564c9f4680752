const MIB = 1 << 20;

/** How much is measured. */
export interface Effort {
  readonly name: "quick" | "full" | "tiny";
  /** Size of the probe file when the caller names none. */
  readonly fileBytes: number;
  /** In full mode at least 3 s and 5 % of all (P1); quick mode trades some of that for time. */
  readonly warmUpNs: number;
  /** Rounds of the latency table, at least 5 (P1). */
  readonly tableRounds: number;
  /** Rounds that may be measured again because they deviate (P2). */
  readonly maxRepeatedRounds: number;
  /** Whether T[s] is measured at all sizes or at about two of three. */
  readonly allSizes: boolean;
  /** Rounds of each comparison of reader settings, and further ones between the best. */
  readonly sweepRounds: number;
  readonly sweepFinalRounds: number;
  /** About how long one comparison may take, and T[s] before rounds are no longer repeated. */
  readonly comparisonBudgetNs: number;
  readonly tableBudgetNs: number;
  /** About how long the measured part of one sample takes. */
  readonly sampleNs: number;
  /** Bytes of one sample at most; it bounds the landing memory too. */
  readonly sampleBytes: number;
  /** Reads of one sample at most. */
  readonly sampleReads: number;
  /** Reads one at a time, for each size and round. */
  readonly unloadedReads: number;
  readonly unloadedRounds: number;
  /** Random plans that the batch model is fitted to and judged by, half each. */
  readonly plans: number;
  readonly planRounds: number;
}

export const QUICK_EFFORT: Effort = {
  name: "quick",
  fileBytes: 256 * MIB,
  warmUpNs: 1e8,
  tableRounds: 5,
  maxRepeatedRounds: 2,
  allSizes: false,
  sweepRounds: 4,
  sweepFinalRounds: 6,
  comparisonBudgetNs: 1e9,
  tableBudgetNs: 3e9,
  sampleNs: 3e6,
  sampleBytes: 32 * MIB,
  sampleReads: 1024,
  unloadedReads: 4,
  unloadedRounds: 5,
  plans: 64,
  planRounds: 5,
};

export const FULL_EFFORT: Effort = {
  name: "full",
  fileBytes: 2048 * MIB,
  warmUpNs: 4e9,
  tableRounds: 15,
  maxRepeatedRounds: 10,
  allSizes: true,
  sweepRounds: 10,
  sweepFinalRounds: 20,
  comparisonBudgetNs: 8e9,
  tableBudgetNs: 4e10,
  sampleNs: 2e7,
  sampleBytes: 64 * MIB,
  sampleReads: 8192,
  unloadedReads: 16,
  unloadedRounds: 15,
  plans: 200,
  planRounds: 9,
};

/** For tests: every part runs, none long enough to say anything about a device. */
export const TINY_EFFORT: Effort = {
  ...QUICK_EFFORT,
  name: "tiny",
  fileBytes: 64 * MIB,
  warmUpNs: 1e6,
  sampleNs: 2e5,
  sampleBytes: 4 * MIB,
  sampleReads: 64,
  sweepRounds: 2,
  sweepFinalRounds: 1,
  comparisonBudgetNs: 5e8,
  tableBudgetNs: 3e9,
  unloadedReads: 2,
  unloadedRounds: 2,
  plans: 48,
  planRounds: 1,
};
