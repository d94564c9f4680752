import { sumRuns, type RunList, type RunProblem } from "./run-problem.js";

/**
 * The fastest plan with the needed importance that follows `left` up to some row and `right` from there on, cut where
 * the needed importance is just reached. Two plans that are optimal at the same price, one short of importance, cost
 * their common bound plus about one run when spliced; a single plan would overshoot by its whole difference.
 */
export function spliceBest(
  problem: RunProblem,
  left: RunList,
  right: RunList,
): RunList | undefined {
  const { rows, needed } = problem;
  const before = importanceBefore(problem, left.pairs);
  const rightBefore = importanceBefore(problem, right.pairs);
  const isEnough = (cut: number): boolean =>
    before[cut] + rightBefore[rows] - rightBefore[cut] >= needed;
  let best: RunList | undefined;
  for (let cut = 0; cut <= rows; cut++) {
    // Elsewhere a neighbouring cut has enough too.
    const isEdge = cut === 0 || cut === rows || !isEnough(cut - 1) || !isEnough(cut + 1);
    if (!isEdge || !isEnough(cut)) continue;
    const plan = sumRuns(problem, splice(left.pairs, right.pairs, cut));
    if (best === undefined || plan.latencyNs < best.latencyNs) best = plan;
  }
  return best;
}

/** Importance of the plan's rows before each row, `[rows + 1]`. */
function importanceBefore({ rows, prefix }: RunProblem, pairs: readonly number[]): Float64Array {
  const before = new Float64Array(rows + 1);
  let row = 0;
  for (let index = 0; index <= pairs.length; index += 2) {
    const [start, end] = index < pairs.length ? [pairs[index], pairs[index + 1]] : [rows, rows];
    for (; row < start; row++) before[row + 1] = before[row];
    for (; row < end; row++) before[row + 1] = before[row] + (prefix[row + 1] - prefix[row]);
  }
  return before;
}

function splice(left: readonly number[], right: readonly number[], cut: number): number[] {
  const pairs: number[] = [];
  for (let index = 0; index < left.length && left[index] < cut; index += 2) {
    pairs.push(left[index], Math.min(cut, left[index + 1]));
  }
  for (let index = 0; index < right.length; index += 2) {
    if (right[index + 1] <= cut) continue;
    const start = Math.max(cut, right[index]);
    // Runs that meet at the cut are one.
    if (pairs[pairs.length - 1] === start) pairs.pop();
    else pairs.push(start);
    pairs.push(right[index + 1]);
  }
  return pairs;
}
