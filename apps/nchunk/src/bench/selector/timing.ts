import { budgetRows, createSelector, type SelectionRequest } from "@neuron-chunking/chunk-selector";
import type { LatencyTable } from "@neuron-chunking/latency-model";
import { median } from "../../statistics";
import { alternatingOrder } from "../alternating";
import { projectionInputs } from "../importance-cases";
import type { MatrixShape, TimingEffort } from "./effort";
import { SEED } from "./inputs";

/**
 * Inputs in rotation. They share what belongs to the neurons and differ in all else, which is more than consecutive frames
 * of a video do, so that a warm start helps no more here than there.
 */
const INPUTS = 16;
const KEEP = 0.5;
const VARIATION = 1.3;

/** Median time of one warm selection on one thread, ns. */
export interface SelectionTimes {
  /** `lagrange` at a fixed price: one pass. */
  readonly price: number;
  /** `lagrange` solved for half of the rows, as Algorithm 1 is asked for them. */
  readonly budget: number;
  /** `lagrange` solved for a latency: that of its plan of half of the rows. */
  readonly latencyBudget: number;
  /** `lagrange` solved for an importance: that of the same plan. */
  readonly importanceTarget: number;
  /** Algorithm 1 for half of the rows. */
  readonly chunk: number;
  readonly topk: number;
  /** Timed selections of each. */
  readonly rounds: number;
}

type Contender = Exclude<keyof SelectionTimes, "rounds">;

/** Selects for the input of this number. */
type Select = (input: number) => void;

function contendersOf(shape: MatrixShape, table: LatencyTable): Record<Contender, Select> {
  const { rows, rowBytes } = shape;
  const inputOf = projectionInputs({ rows, variation: VARIATION, seed: SEED });
  const budget = budgetRows(rows, 1 - KEEP);
  const requests = Array.from({ length: INPUTS }, (_, input): SelectionRequest => ({
    importance: inputOf(input),
    rows,
    rowBytes,
    table,
    budgetRows: budget,
  }));
  const room = { maxRows: rows };
  // Each question has a selector of its own, as each has its own warm start.
  const selectorFor = (question: (input: number) => Partial<SelectionRequest>): Select => {
    const selector = createSelector("lagrange", room);
    const asked = requests.map((request, input) => {
      const { importance } = request;
      return { importance, rows, rowBytes, table, ...question(input) };
    });
    return (input) => void selector.select(asked[input]);
  };
  const plain = (policy: "chunk" | "topk"): Select => {
    const selector = createSelector(policy, room);
    return (input) => void selector.select(requests[input]);
  };
  const solver = createSelector("lagrange", room);
  const solved = requests.map((request) => {
    solver.select(request);
    const { latencyNs, importance, pricePerNs } = solver.solution;
    return { latencyNs, importance, pricePerNs };
  });
  const price = median(solved.map(({ pricePerNs }) => pricePerNs));
  return {
    price: selectorFor(() => ({ pricePerNs: price })),
    budget: selectorFor(() => ({ budgetRows: budget })),
    latencyBudget: selectorFor((input) => ({ latencyBudgetNs: solved[input].latencyNs })),
    importanceTarget: selectorFor((input) => ({ importanceTarget: solved[input].importance })),
    chunk: plain("chunk"),
    topk: plain("topk"),
  };
}

/** Times all contenders in turn, forwards and backwards, each round on the next input. */
export function timeSelections(
  shape: MatrixShape,
  table: LatencyTable,
  effort: TimingEffort,
): SelectionTimes {
  const contenders = Object.entries(contendersOf(shape, table)).map(([name, select]) => ({
    name: name as Contender,
    select,
    timesNs: [] as number[],
  }));
  for (let round = 0; round < effort.warmUpRounds; round += 1) {
    for (const { select } of contenders) select(round % INPUTS);
  }
  const startedMs = performance.now();
  let rounds = 0;
  while (
    rounds < effort.minRounds ||
    (rounds < effort.maxRounds && performance.now() - startedMs < effort.budgetMs)
  ) {
    for (const { select, timesNs } of alternatingOrder(contenders, rounds)) {
      const beganMs = performance.now();
      select(rounds % INPUTS);
      timesNs.push((performance.now() - beganMs) * 1e6);
    }
    rounds += 1;
  }
  const times = contenders.map(({ name, timesNs }) => [name, Math.round(median(timesNs))]);
  return { ...(Object.fromEntries(times) as Record<Contender, number>), rounds };
}
