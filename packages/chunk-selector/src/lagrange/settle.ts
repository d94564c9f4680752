import type { Problem } from "./problem.js";
import type { RunList } from "./run-list.js";

/** How far ends are moved: about the distance of the points of a measured table, where its kinks are. */
const REACH_BYTES = 32 << 10;
const LEAST_REACH_ROWS = 2;

/**
 * Moves each end of each run a little way to where `sum(v) - price * L` is best by the table itself: the plan came from a grid
 * that knows neither single rows nor the table's kinks.
 */
export function settleEnds(problem: Problem, price: number, plan: RunList): void {
  const { rows, prefix, costs } = problem;
  const reach = Math.max(LEAST_REACH_ROWS, Math.ceil(REACH_BYTES / costs.rowBytes));
  const { starts, ends } = plan;
  for (let run = 0; run < plan.count; run++) {
    const start = starts[run];
    const from = Math.max(start + 1, ends[run] - reach);
    const to = Math.min(plan.roomEnd(run, rows), ends[run] + reach);
    let most = -Infinity;
    for (let end = from; end <= to; end++) {
      const value = prefix[end] - price * costs.of(end - start);
      if (value <= most) continue;
      most = value;
      ends[run] = end;
    }
    const end = ends[run];
    const first = Math.max(plan.roomStart(run), start - reach);
    const last = Math.min(end - 1, start + reach);
    most = -Infinity;
    for (let begin = first; begin <= last; begin++) {
      const value = -prefix[begin] - price * costs.of(end - begin);
      if (value <= most) continue;
      most = value;
      starts[run] = begin;
    }
  }
  plan.measure(problem);
}
