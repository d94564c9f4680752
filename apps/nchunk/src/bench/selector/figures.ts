import { budgetRows, createSelector, type SelectionRequest } from "@neuron-chunking/chunk-selector";
import {
  contiguityDistribution,
  copyPlan,
  estimatePlanNs,
  type ChunkPlan,
  type ContiguityDistribution,
  type LatencyTable,
} from "@neuron-chunking/latency-model";
import { drawHotCold } from "../importance-cases";
import { importanceOfPlan, leastRows, ROUNDING } from "./compare";
import type { MatrixShape } from "./effort";
import { largestSums, SEED } from "./inputs";

/** The attention output of a 7B model: what the paper's figures show masks of. */
const SHAPE: MatrixShape = { rows: 3584, cols: 3584, rowBytes: 7168 };
const VARIATION = 1.3;
const KEEP = 0.5;
/** Row budgets of the curves, in steps of 2 %. */
const CURVE_STEPS = 50;

export const FIGURE_POLICIES = ["topk", "chunk", "lagrange"] as const;
export type FigurePolicy = (typeof FIGURE_POLICIES)[number];
export const FIGURE_ORDERS = ["unsorted", "hot-cold"] as const;
export type FigureOrder = (typeof FIGURE_ORDERS)[number];

/** What one policy selects of the matrix at the importance of Algorithm 1's plan. */
export interface FigurePlan {
  readonly policy: FigurePolicy;
  readonly order: FigureOrder;
  readonly plan: ChunkPlan;
  readonly latencyNs: number;
  readonly contiguity: ContiguityDistribution;
}

/** A plan's latency and its share of the total importance. */
export interface CurvePoint {
  readonly policy: FigurePolicy;
  readonly order: FigureOrder;
  readonly latencyNs: number;
  readonly importance: number;
}

/** What the page draws of one matrix on one device. */
export interface Figures {
  readonly shape: MatrixShape;
  readonly device: string;
  readonly variation: number;
  readonly keep: number;
  readonly denseNs: number;
  readonly plans: readonly FigurePlan[];
  readonly curves: readonly CurvePoint[];
}

/** Plans of all policies for one input; each answer belongs to the selectors until the next question. */
function policiesFor(importance: Float32Array, table: LatencyTable) {
  const { rows, rowBytes } = SHAPE;
  const room = { maxRows: rows };
  const selectors = {
    topk: createSelector("topk", room),
    chunk: createSelector("chunk", room),
    lagrange: createSelector("lagrange", room),
  };
  const request: SelectionRequest = { importance, rows, rowBytes, table };
  const sums = largestSums(importance);
  return {
    total: sums[rows],
    atBudget(policy: "topk" | "chunk", keep: number): ChunkPlan {
      return selectors[policy].select({ ...request, budgetRows: budgetRows(rows, 1 - keep) });
    },
    atImportance(policy: "topk" | "lagrange", importanceTarget: number): ChunkPlan {
      return policy === "topk"
        ? selectors.topk.select({ ...request, budgetRows: leastRows(sums, importanceTarget) })
        : selectors.lagrange.select({ ...request, importanceTarget });
    },
  };
}

/** The same input before and after reordering: masks, contiguity, and importance against latency. */
export function drawFigures(table: LatencyTable): Figures {
  const { rows, rowBytes } = SHAPE;
  const { original, reordered } = drawHotCold({ rows, variation: VARIATION, seed: SEED });
  const plans: FigurePlan[] = [];
  const curves: CurvePoint[] = [];
  for (const order of FIGURE_ORDERS) {
    const importance = order === "hot-cold" ? reordered : original;
    const policies = policiesFor(importance, table);
    const keepPlan = (policy: FigurePolicy, selected: ChunkPlan): void => {
      const plan = copyPlan(selected);
      const latencyNs = estimatePlanNs(plan, rowBytes, table);
      plans.push({ policy, order, plan, latencyNs, contiguity: contiguityDistribution(plan) });
    };
    const addPoint = (policy: FigurePolicy, plan: ChunkPlan): number => {
      const reached = importanceOfPlan(plan, importance);
      const latencyNs = estimatePlanNs(plan, rowBytes, table);
      curves.push({ policy, order, latencyNs, importance: reached / policies.total });
      return reached;
    };
    const chunkPlan = policies.atBudget("chunk", KEEP);
    const target = importanceOfPlan(chunkPlan, importance) * (1 - ROUNDING);
    keepPlan("topk", policies.atImportance("topk", target));
    keepPlan("chunk", chunkPlan);
    keepPlan("lagrange", policies.atImportance("lagrange", target));
    for (let step = 1; step < CURVE_STEPS; step += 1) {
      addPoint("topk", policies.atBudget("topk", step / CURVE_STEPS));
      const reached = addPoint("chunk", policies.atBudget("chunk", step / CURVE_STEPS));
      addPoint("lagrange", policies.atImportance("lagrange", reached * (1 - ROUNDING)));
    }
  }
  return {
    shape: SHAPE,
    device: table.name,
    variation: VARIATION,
    keep: KEEP,
    denseNs: table.latencyNs(rows * rowBytes),
    plans,
    curves,
  };
}
