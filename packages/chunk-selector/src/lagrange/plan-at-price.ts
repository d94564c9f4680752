import type { PricedPass } from "./priced-pass.js";
import type { Problem } from "./problem.js";
import type { RunCurve } from "./run-costs.js";
import type { RunList } from "./run-list.js";

/**
 * Fills `plan` with the optimum at a price by the problem's grid, its sums by the problem's table.
 *
 * @returns its latency by the grid, ns.
 */
export function planAtPrice(
  problem: Problem,
  pass: PricedPass,
  price: number,
  plan: RunList,
): number {
  const { cellRows, cells, curve } = problem.grid;
  pass.run(problem.cellImportance, cells, curve, price, plan);
  const gridNs = latencyBy(curve, plan);
  plan.toRows(cellRows, problem.rows);
  plan.measure(problem);
  return gridNs;
}

function latencyBy({ joinRows, latencyNs, tailNsPerRow }: RunCurve, plan: RunList): number {
  let sumNs = 0;
  for (let run = 0; run < plan.count; run++) {
    const length = plan.ends[run] - plan.starts[run];
    const past = Math.max(0, length - joinRows);
    sumNs += latencyNs[length - past] + tailNsPerRow * past;
  }
  return sumNs;
}
