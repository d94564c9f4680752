import { PAPER_HYPERPARAMETERS } from "@neuron-chunking/chunk-selector";
import { IMPORTANCE_VARIATIONS } from "../importance-cases";

/** Weights are stored in 16 bits, as in the paper. */
const BYTES_PER_WEIGHT = 2;

/** A weight matrix as the selector sees it. */
export interface MatrixShape {
  readonly rows: number;
  readonly cols: number;
  readonly rowBytes: number;
}

/** The 16 matrices of the paper's Table 2. */
export const PAPER_SHAPES: readonly MatrixShape[] = PAPER_HYPERPARAMETERS.map(({ rows, cols }) => ({
  rows,
  cols,
  rowBytes: BYTES_PER_WEIGHT * cols,
}));

/** How much is compared and timed. */
export interface SelectorEffort {
  readonly name: "tiny" | "default" | "thorough";
  readonly shapes: readonly MatrixShape[];
  readonly variations: readonly number[];
  /**
   * Shares of rows that Algorithm 1 may keep, in the order in which they are done: when time runs out the last are left
   * out, and what is left is spread over the range.
   */
  readonly keeps: readonly number[];
  /** Of these, those that the degenerate inputs are tried with. */
  readonly degenerateKeeps: readonly number[];
  /** Where the exact optimum is searched for. */
  readonly exact: ExactEffort;
  /** Of every matrix with the table of one device. */
  readonly timing: TimingEffort;
  /** Of some matrices with the tables of the others. */
  readonly otherTiming: TimingEffort;
  /** These, by rows and bytes of a row. */
  readonly otherTimingShapes: readonly string[];
  /** From the start of the run; when no further share of rows is begun. */
  readonly budgetMs: number;
}

export interface ExactEffort {
  /** Larger matrices are not tried. */
  readonly maxRows: number;
  /** Of the grid; the degenerate inputs are always tried. */
  readonly variations: readonly number[];
  readonly keeps: readonly number[];
  /** After so many partial plans a case is given up as not proven. */
  readonly maxLabels: number;
  /** Searched for even when time is up. */
  readonly minCases: number;
  /** From the start of the run; when no further search is begun. */
  readonly budgetMs: number;
}

export interface TimingEffort {
  readonly warmUpRounds: number;
  readonly minRounds: number;
  readonly maxRounds: number;
  /** For one shape, after which no round beyond the least is begun. */
  readonly budgetMs: number;
}

/** The name of a shape in reports. */
export const shapeName = ({ rows, rowBytes }: MatrixShape): string => `${rows}x${rowBytes}`;

const KEEPS = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6];

const DEFAULT: SelectorEffort = {
  name: "default",
  shapes: PAPER_SHAPES,
  variations: IMPORTANCE_VARIATIONS,
  keeps: KEEPS,
  degenerateKeeps: [0.5, 0.1, 0.9],
  exact: {
    maxRows: 1536,
    variations: [1.3],
    keeps: KEEPS,
    maxLabels: 100_000,
    minCases: 100,
    budgetMs: 40_000,
  },
  timing: { warmUpRounds: 20, minRounds: 30, maxRounds: 400, budgetMs: 400 },
  otherTiming: { warmUpRounds: 5, minRounds: 5, maxRounds: 200, budgetMs: 200 },
  otherTimingShapes: ["18944x7168", "896x9728"],
  budgetMs: 30_000,
};

export const SELECTOR_EFFORTS: Record<SelectorEffort["name"], SelectorEffort> = {
  default: DEFAULT,
  thorough: {
    ...DEFAULT,
    name: "thorough",
    degenerateKeeps: KEEPS,
    exact: {
      maxRows: 1536,
      variations: IMPORTANCE_VARIATIONS,
      keeps: KEEPS,
      maxLabels: 400_000,
      minCases: 0,
      budgetMs: Infinity,
    },
    timing: { warmUpRounds: 50, minRounds: 100, maxRounds: 2_000, budgetMs: 4_000 },
    otherTiming: { warmUpRounds: 20, minRounds: 20, maxRounds: 1_000, budgetMs: 2_000 },
    otherTimingShapes: PAPER_SHAPES.map(shapeName),
    budgetMs: Infinity,
  },
  // For tests: every part runs, and all shapes are timed, but a few rounds say nothing about speed.
  tiny: {
    ...DEFAULT,
    name: "tiny",
    variations: [1.3],
    keeps: [0.5],
    degenerateKeeps: [0.5],
    exact: {
      maxRows: 896,
      variations: [1.3],
      keeps: [0.5],
      maxLabels: 2_000,
      minCases: 40,
      budgetMs: 0,
    },
    timing: { warmUpRounds: 1, minRounds: 2, maxRounds: 2, budgetMs: 0 },
    otherTiming: { warmUpRounds: 1, minRounds: 1, maxRounds: 1, budgetMs: 0 },
    otherTimingShapes: ["896x9728"],
    budgetMs: 0,
  },
};
