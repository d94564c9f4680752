const MIB = 2 ** 20;

/** How much is measured. */
export interface KernelEffort {
  readonly name: "tiny" | "default" | "thorough";
  /** Memory that stands for weights; several times the last-level cache, so that they are always cold. */
  readonly arenaBytes: number;
  /** Read in each round to learn the bandwidth. */
  readonly streamBytes: number;
  /** Multiply-adds in registers in each round: iterations of some dozen vectors. */
  readonly multiplyAddIterations: number;
  readonly minRounds: number;
  readonly maxRounds: number;
  /** Larger products are left out, and a note says so. */
  readonly maxFlops: number;
  readonly budgetMs: number;
  /** Every instruction set of the CPU, else the one in use. */
  readonly isEveryTarget: boolean;
  /** One thread too, else all of them only. */
  readonly isAlsoOneThread: boolean;
  /** Every size is divided by this. */
  readonly shrink: number;
}

const DEFAULT: KernelEffort = {
  name: "default",
  arenaBytes: 192 * MIB,
  streamBytes: 48 * MIB,
  multiplyAddIterations: 50_000,
  minRounds: 2,
  maxRounds: 7,
  maxFlops: 3e9,
  budgetMs: 38_000,
  isEveryTarget: false,
  isAlsoOneThread: false,
  shrink: 1,
};

export const KERNEL_EFFORTS: Record<KernelEffort["name"], KernelEffort> = {
  default: DEFAULT,
  thorough: {
    ...DEFAULT,
    name: "thorough",
    arenaBytes: 640 * MIB,
    streamBytes: 128 * MIB,
    minRounds: 5,
    maxRounds: 21,
    maxFlops: Infinity,
    budgetMs: 1_200_000,
    isEveryTarget: true,
    isAlsoOneThread: true,
  },
  // For tests: every part runs, none long enough to say anything about the kernels.
  tiny: {
    ...DEFAULT,
    name: "tiny",
    arenaBytes: 4 * MIB,
    streamBytes: MIB,
    multiplyAddIterations: 500,
    minRounds: 1,
    maxRounds: 1,
    budgetMs: 0,
    shrink: 32,
  },
};
