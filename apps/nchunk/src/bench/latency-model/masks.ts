import {
  estimatePlanNs,
  planFromMask,
  type ChunkPlan,
  type LatencyTable,
} from "@neuron-chunking/latency-model";
import { uniformGenerator } from "../../random";
import { selectedPlan } from "../plan-ranges";
import type { ModelEffort } from "./effort";

/** Rows of the models in the paper: 0.5B and 7B ones in 16 bits, bundled and not. */
const ROW_SIZES_BYTES = [896, 1792, 7168, 37888];
const KINDS = ["random", "selected"] as const;
const POLICIES = ["topk", "threshold", "chunk"] as const;
/** Of the importances: the paper's range before down projections, and its last layers (App. B.2). */
const VARIATIONS = [1.1, 1.3, 3.3];
const KEEP = { least: 0.1, most: 0.9 };
/** The smallest matrices give batches of a few chunks. */
const MIN_MATRIX_BYTES = 128 * 1024;
const MIN_ROWS = 8;
const SEED = 11;

/** Rows of one matrix to read together. */
export interface Mask {
  readonly kind: (typeof KINDS)[number];
  readonly rowBytes: number;
  /** Of the whole matrix. */
  readonly rows: number;
  readonly plan: ChunkPlan;
}

/** Rows that are kept or not, each by chance alone. */
function randomPlan(rows: number, keep: number, uniform: () => number): ChunkPlan {
  return planFromMask(Array.from({ length: rows }, () => uniform() < keep));
}

/** Masks of both kinds over every row size; the same each time, for one device. */
export function drawMasks(effort: ModelEffort, table: LatencyTable): Mask[] {
  const uniform = uniformGenerator(SEED);
  const between = (least: number, most: number): number => least + (most - least) * uniform();
  const draw = (kind: Mask["kind"], rowBytes: number, index: number): Mask => {
    // Evenly over the orders of magnitude: small batches behave unlike large ones.
    const span = Math.log(effort.maxMatrixBytes / MIN_MATRIX_BYTES);
    const matrixBytes = MIN_MATRIX_BYTES * Math.exp(between(0, span));
    for (let rows = Math.max(MIN_ROWS, Math.round(matrixBytes / rowBytes)); ;) {
      const keep = between(KEEP.least, KEEP.most);
      const selection = {
        policy: POLICIES[index % POLICIES.length],
        variation: VARIATIONS[Math.floor(uniform() * VARIATIONS.length)],
        seed: Math.floor(uniform() * 2 ** 31),
      };
      const plan =
        kind === "random"
          ? randomPlan(rows, keep, uniform)
          : selectedPlan({ ...selection, rows, rowBytes, keep }, table);
      const isEmpty = plan.chunkCount === 0;
      const isShort = estimatePlanNs(plan, rowBytes, table) <= effort.maxMaskNs;
      if (!isEmpty && (isShort || rows === MIN_ROWS)) return { kind, rowBytes, rows, plan };
      if (!isEmpty) rows = Math.max(MIN_ROWS, rows >> 1);
    }
  };
  return ROW_SIZES_BYTES.flatMap((rowBytes) =>
    KINDS.flatMap((kind) =>
      Array.from({ length: effort.masksPerGroup }, (_, index) => draw(kind, rowBytes, index)),
    ),
  );
}
