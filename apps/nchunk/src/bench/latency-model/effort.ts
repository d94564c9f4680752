const MIB = 2 ** 20;

/** How much is measured. */
export interface ModelEffort {
  readonly name: "tiny" | "default" | "thorough";
  readonly fileBytes: number;
  /** Of each kind, random and selected, for each row size. */
  readonly masksPerGroup: number;
  readonly maxMatrixBytes: number;
  /** A mask that should take longer than this is drawn again of a matrix half as large. */
  readonly maxMaskNs: number;
  readonly minRounds: number;
  readonly maxRounds: number;
  /** When no further round is begun. */
  readonly budgetMs: number;
}

const DEFAULT: ModelEffort = {
  name: "default",
  fileBytes: 1024 * MIB,
  masksPerGroup: 50,
  maxMatrixBytes: 16 * MIB,
  maxMaskNs: 2e7,
  minRounds: 3,
  maxRounds: 15,
  budgetMs: 40_000,
};

export const MODEL_EFFORTS: Record<ModelEffort["name"], ModelEffort> = {
  default: DEFAULT,
  thorough: {
    ...DEFAULT,
    name: "thorough",
    maxMatrixBytes: 128 * MIB,
    maxMaskNs: 2e8,
    minRounds: 7,
    maxRounds: 31,
    budgetMs: 360_000,
  },
  // For tests: every part runs, none long enough to say anything about the models.
  tiny: {
    ...DEFAULT,
    name: "tiny",
    fileBytes: 32 * MIB,
    masksPerGroup: 6,
    maxMatrixBytes: 2 * MIB,
    minRounds: 2,
    maxRounds: 2,
    budgetMs: 0,
  },
};
