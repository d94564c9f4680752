import { IMPORTANCE_VARIATIONS } from "../importance-cases";

const MIB = 2 ** 20;

/** How much is measured. */
export interface IoEffort {
  readonly name: "tiny" | "default" | "thorough";
  readonly fileBytes: number;
  /** Larger matrices are measured on their first rows only, and the report says so. */
  readonly maxMatrixBytes: number;
  /** Shares of the rows that Algorithm 1 keeps, which set the importance that the others must reach. */
  readonly keptShares: readonly number[];
  /** Coefficients of variation of the importances. */
  readonly variations: readonly number[];
  /** Rounds of every matrix, however slow the disk. */
  readonly minRounds: number;
  readonly maxRounds: number;
  /** Inputs in one round of one matrix: small ones are read in no time, and their times scatter most. */
  readonly maxInputs: number;
  /** No further input is begun in a round after so long. */
  readonly roundMs: number;
  /** When no further round is begun. */
  readonly budgetMs: number;
}

const DEFAULT: IoEffort = {
  name: "default",
  fileBytes: 1024 * MIB,
  maxMatrixBytes: Infinity,
  keptShares: [0.5],
  // The paper has 1.07 to 1.44 before most down projections (App. B.2).
  variations: [1.3],
  minRounds: 1,
  maxRounds: 9,
  maxInputs: 6,
  roundMs: 60,
  budgetMs: 44_000,
};

export const IO_EFFORTS: Record<IoEffort["name"], IoEffort> = {
  default: DEFAULT,
  thorough: {
    ...DEFAULT,
    name: "thorough",
    keptShares: [0.3, 0.5, 0.7],
    variations: IMPORTANCE_VARIATIONS,
    minRounds: 3,
    maxRounds: 15,
    budgetMs: 600_000,
  },
  // For tests: every part runs, none long enough to say anything about speed.
  tiny: {
    ...DEFAULT,
    name: "tiny",
    fileBytes: 32 * MIB,
    maxMatrixBytes: 2 * MIB,
    maxRounds: 1,
    maxInputs: 1,
    roundMs: 0,
    budgetMs: 0,
  },
};
