import type { Work } from "./child-protocol";
import { SHAPES, type ModelShape } from "./model-shape";

/** Sizes that `--size` names. */
export const SIZES = ["0.5b", "7b"] as const;
export type Size = (typeof SIZES)[number];

/** How much is measured. */
export interface Effort {
  readonly name: "tiny" | "default" | "thorough";
  /** Model of the cases. */
  readonly shape: ModelShape;
  /** Model of the comparison with llama.cpp; undefined: there is none. */
  readonly peerShape: ModelShape | undefined;
  readonly work: Work;
  readonly peerWork: Work;
  /** At most; where time is short, as many as fit it. */
  readonly peerRounds: number;
  /** Whether the comparison has our exact policy too. */
  readonly peerDense: boolean;
  /** The comparison is shared out over what is left of this, and nothing of it is begun after. */
  readonly budgetMs: number;
}

const DEFAULT: Effort = {
  name: "default",
  shape: SHAPES["0.5b-part"],
  peerShape: SHAPES["7b-small-part"],
  work: { prefillTokens: 32, frames: 1, decodeTokens: 8, phaseMs: 500 },
  peerWork: { prefillTokens: 8, frames: 0, decodeTokens: 5, phaseMs: 2000 },
  peerRounds: 3,
  peerDense: false,
  budgetMs: 44_000,
};

const THOROUGH: Effort = {
  name: "thorough",
  shape: SHAPES["0.5b"],
  peerShape: SHAPES["7b-part"],
  work: { prefillTokens: 256, frames: 8, decodeTokens: 32, phaseMs: 30_000 },
  peerWork: { prefillTokens: 8, frames: 0, decodeTokens: 12, phaseMs: 30_000 },
  peerRounds: 3,
  peerDense: true,
  budgetMs: Infinity,
};

/** @param size Of the models; `7b` measures the whole 7B model in all cases and against llama.cpp. */
export function effortOf(name: Effort["name"], size: Size): Effort {
  if (name === "tiny") {
    return {
      ...DEFAULT,
      name,
      shape: SHAPES.tiny,
      peerShape: undefined,
      work: { prefillTokens: 8, frames: 1, decodeTokens: 2, phaseMs: 60_000 },
    };
  }
  const effort = name === "thorough" ? THOROUGH : DEFAULT;
  if (size === "0.5b") return effort;
  return {
    ...effort,
    shape: SHAPES["7b"],
    peerShape: SHAPES["7b"],
    work: { ...effort.work, phaseMs: 30_000 },
    peerWork: { ...effort.peerWork, phaseMs: 60_000 },
    budgetMs: Infinity,
  };
}
