import type { Problem } from "./problem.js";
import type { RunList } from "./run-list.js";

/** Enough for what is left after a crossover: each round leaves less room, most plans need three or four. */
const MAX_ROUNDS = 24;

/** Savings below this are rounding. */
const LEAST_GAIN_NS = 1e-6;

/**
 * Gives up importance that a plan has beyond `target`: again and again the whole run or end of a run whose rows fit into
 * the excess and which saves most latency. Recovers part of what a price alone cannot reach (unsupported points).
 */
export function trimToImportance(problem: Problem, plan: RunList, target: number): void {
  const { prefix, costs } = problem;
  const { starts, ends } = plan;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const excess = plan.importance - target;
    let mostSavedNs = LEAST_GAIN_NS;
    let bestRun = -1;
    let bestStart = 0;
    let bestEnd = 0;
    for (let run = 0; run < plan.count; run++) {
      const start = starts[run];
      const end = ends[run];
      const costNs = costs.of(end - start);
      // A cheaper run than the best saving cannot beat it.
      if (costNs <= mostSavedNs) continue;
      if (prefix[end] - prefix[start] <= excess) {
        mostSavedNs = costNs;
        bestRun = run;
        bestStart = bestEnd = end;
        continue;
      }
      let later = start;
      while (prefix[later + 1] - prefix[start] <= excess) later++;
      let earlier = end;
      while (prefix[end] - prefix[earlier - 1] <= excess) earlier--;
      const fromFront = later - start >= end - earlier;
      const savedNs = costNs - costs.of(fromFront ? end - later : earlier - start);
      if (savedNs <= mostSavedNs) continue;
      mostSavedNs = savedNs;
      bestRun = run;
      bestStart = fromFront ? later : start;
      bestEnd = fromFront ? end : earlier;
    }
    if (bestRun < 0) return;
    setRun(plan, bestRun, bestStart, bestEnd);
    plan.measure(problem);
  }
}

/** Makes run `run` the rows `[start, end)`, or removes it where they are none. */
export function setRun(plan: RunList, run: number, start: number, end: number): void {
  if (start >= end) {
    plan.remove(run);
    return;
  }
  plan.starts[run] = start;
  plan.ends[run] = end;
}
