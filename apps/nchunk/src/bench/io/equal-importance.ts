import type { Selector, SelectionRequest } from "@neuron-chunking/chunk-selector";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import { NchunkError } from "../../errors";

/** The sum of the importances of the plan's rows. */
export function planImportance(plan: ChunkPlan, importance: Float32Array): number {
  let sum = 0;
  for (let chunk = 0; chunk < plan.chunkCount; chunk += 1) {
    const end = plan.starts[chunk] + plan.lengths[chunk];
    for (let row = plan.starts[chunk]; row < end; row += 1) sum += importance[row];
  }
  return sum;
}

/** The fewest rows whose importance can reach `target`: the most important ones, added up. */
export function leastTopkRows(importance: Float32Array, target: number): number {
  const ascending = importance.slice().sort();
  let sum = 0;
  let rows = 0;
  while (rows < ascending.length && sum < target) {
    rows += 1;
    sum += ascending[ascending.length - rows];
  }
  return rows;
}

/** A budget or price that overshoots the target by less than this share is close enough. */
const TOLERANCE = 5e-4;

/** Like {@link leastTopkRows} for Algorithm 1, by bisection: about the smallest budget whose plan reaches `target`. */
export function leastChunkBudget(
  selector: Selector,
  request: SelectionRequest,
  target: number,
): number {
  let tooFew = -1;
  let enough = request.rows;
  while (enough - tooFew > 1) {
    const budgetRows = (tooFew + enough) >> 1;
    const sum = planImportance(selector.select({ ...request, budgetRows }), request.importance);
    if (sum < target) tooFew = budgetRows;
    else enough = budgetRows;
    if (sum >= target && sum <= target * (1 + TOLERANCE)) break;
  }
  return enough;
}

/** Prices closer than this, relative, are one: the target lies between two plans that no price is between. */
const PRICE_TOLERANCE = 5e-3;
/** The bracket's first step, from a price that is likely to be near and from none; each step is the last one's square. */
const NEAR_STEP = 1.2;
const FAR_STEP = 4;
/** Squared so often, a step reaches any price from any other. */
const BRACKET_STEPS = 12;

/** About the highest price, importance per ns, at which the plan of `selector` (lagrange) reaches `target`. @param near A guess. */
export function highestPrice(
  selector: Selector,
  request: SelectionRequest,
  target: number,
  near?: number,
): number {
  const reaches = (pricePerNs: number): number =>
    planImportance(selector.select({ ...request, pricePerNs }), request.importance) / target;
  const { importance, rows, rowBytes, table } = request;
  const total = importance.reduce((sum, value) => sum + value, 0);
  const firstStep = near === undefined ? FAR_STEP : NEAR_STEP;
  let high = near ?? total / (table?.latencyNs(rows * rowBytes) ?? 1);
  let low = high;
  for (let i = 0, step = firstStep; i < BRACKET_STEPS && reaches(high) >= 1; i += 1, step **= 2) {
    low = high;
    high *= step;
  }
  for (let i = 0, step = firstStep; i < BRACKET_STEPS && reaches(low) < 1; i += 1, step **= 2) {
    high = low;
    low /= step;
  }
  while (high / low > 1 + PRICE_TOLERANCE) {
    const middle = Math.sqrt(low * high);
    const reached = reaches(middle);
    if (reached < 1) high = middle;
    else low = middle;
    if (reached >= 1 && reached <= 1 + TOLERANCE) break;
  }
  return low;
}

/** Sums in another order differ by rounding. */
const ROUNDING = 1e-6;

/** Times of plans that keep less than they must are no comparison. Throws BENCH_FAILED. */
export function requireImportance(policy: string, kept: number, target: number): void {
  if (kept >= target * (1 - ROUNDING)) return;
  throw new NchunkError(
    "BENCH_FAILED",
    `The ${policy} policy kept an importance of ${kept} where ${target} was asked for. This is a bug, please report it.`,
  );
}
