import type { Problem } from "./problem.js";
import { RunList } from "./run-list.js";
import { setRun, trimToImportance } from "./trim.js";
import { WindowSearch } from "./windows.js";

/** Plans of more runs are left alone: there a price alone comes close, and the searches below grow with the runs. */
export const FEW_RUNS = 16;

/** Pairs of runs are searched together only among so few. */
const FEW_PAIRS = 5;

/** Parts of a run that are tried as the larger of two runs in its place, plus one. */
const SPLITS = 8;

const MAX_ROUNDS = 6;

/** Improvements below this are rounding. */
const LEAST_GAIN_NS = 1e-6;

/**
 * Local search for plans of a few long runs, where the optimum for an importance target is far from every price's (small
 * matrices: a run or two read everything that matters). Each step keeps the target and lowers the latency.
 */
export class FewRuns {
  readonly #kept: RunList;
  readonly #windows = new WindowSearch();

  constructor(maxRows: number) {
    this.#kept = new RunList(maxRows);
  }

  /** One descent that only moves runs: most of what there is to gain, in a fraction of the time. */
  moveRuns(problem: Problem, plan: RunList, target: number): void {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      if (!this.#moveRuns(problem, plan, target)) return;
    }
  }

  /**
   * Improves `plan`, which reaches `target`, from several starting points: itself, the cheapest run that reaches the
   * target alone, the plan of a lower price trimmed, and that of a higher price with one run added.
   */
  improve(
    problem: Problem,
    plan: RunList,
    frugal: RunList,
    generous: RunList,
    target: number,
  ): void {
    const kept = this.#kept;
    this.#descend(problem, plan, target);
    for (let start = 0; start < 3; start++) {
      kept.copyFrom(plan);
      const isFeasible = this.#restart(start, problem, plan, frugal, generous, target);
      if (isFeasible) this.#descend(problem, plan, target);
      if (!isFeasible || plan.latencyNs >= kept.latencyNs - LEAST_GAIN_NS) plan.copyFrom(kept);
    }
    if (plan.count <= FEW_PAIRS) this.#improvePairs(problem, plan, target);
  }

  /** Whether there is such a start that reaches the target. */
  #restart(
    start: number,
    problem: Problem,
    plan: RunList,
    frugal: RunList,
    generous: RunList,
    target: number,
  ): boolean {
    if (start === 0) {
      if (!this.#windows.shortest(problem, 0, problem.rows, target)) return false;
      plan.clear();
      plan.append(this.#windows.start, this.#windows.start + this.#windows.length);
      plan.measure(problem);
      return true;
    }
    const from = start === 1 ? generous : frugal;
    if (from.count > FEW_RUNS) return false;
    plan.copyFrom(from);
    if (start === 1) trimToImportance(problem, plan, target);
    else this.#addRun(problem, plan, target);
    return plan.importance >= target;
  }

  #descend(problem: Problem, plan: RunList, target: number): void {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      if (this.#moveRuns(problem, plan, target)) continue;
      if (this.#absorbRun(problem, plan, target)) continue;
      if (this.#relocateRun(problem, plan, target)) continue;
      if (!this.#splitRun(problem, plan, target)) return;
    }
  }

  /** Replaces each run by the shortest between its neighbours that is enough. */
  #moveRuns(problem: Problem, plan: RunList, target: number): boolean {
    let improved = false;
    for (let run = plan.count - 1; run >= 0; run--) {
      const length = plan.ends[run] - plan.starts[run];
      const need = runImportance(problem, plan, run) - (plan.importance - target);
      if (need <= 0) {
        plan.remove(run);
      } else {
        const end = plan.roomEnd(run, problem.rows);
        if (!this.#windows.shortest(problem, plan.roomStart(run), end, need)) continue;
        if (this.#windows.length >= length) continue;
        setRun(plan, run, this.#windows.start, this.#windows.start + this.#windows.length);
      }
      plan.measure(problem);
      improved = true;
    }
    return improved;
  }

  /** Removes the run that another can make up for most cheaply. */
  #absorbRun(problem: Problem, plan: RunList, target: number): boolean {
    const { costs, rows } = problem;
    let leastNs = plan.latencyNs - LEAST_GAIN_NS;
    let bestRemoved = -1;
    let bestGrown = 0;
    let bestStart = 0;
    let bestLength = 0;
    for (let removed = 0; removed < plan.count; removed++) {
      for (let grown = 0; grown < plan.count; grown++) {
        if (grown === removed) continue;
        const need =
          runImportance(problem, plan, grown) +
          runImportance(problem, plan, removed) -
          (plan.importance - target);
        const from = plan.roomStart(grown - 1 === removed ? removed : grown);
        const to = plan.roomEnd(grown + 1 === removed ? removed : grown, rows);
        if (!this.#windows.shortest(problem, from, to, need)) continue;
        const latencyNs =
          plan.latencyNs -
          runNs(problem, plan, removed) -
          runNs(problem, plan, grown) +
          costs.of(this.#windows.length);
        if (latencyNs >= leastNs) continue;
        leastNs = latencyNs;
        bestRemoved = removed;
        bestGrown = grown;
        bestStart = this.#windows.start;
        bestLength = this.#windows.length;
      }
    }
    if (bestRemoved < 0) return false;
    setRun(plan, bestGrown, bestStart, bestStart + bestLength);
    plan.remove(bestRemoved);
    plan.measure(problem);
    return true;
  }

  /** Moves the run that is cheaper elsewhere, between any two others. */
  #relocateRun(problem: Problem, plan: RunList, target: number): boolean {
    let leastNs = plan.latencyNs - LEAST_GAIN_NS;
    let bestRun = -1;
    let bestStart = 0;
    let bestLength = 0;
    for (let run = 0; run < plan.count; run++) {
      const need = runImportance(problem, plan, run) - (plan.importance - target);
      const othersNs = plan.latencyNs - runNs(problem, plan, run);
      for (let gap = 0; gap <= plan.count; gap++) {
        if (gap === run || gap === run + 1) continue;
        const from = gap === 0 ? 0 : plan.ends[gap - 1] + 1;
        const to = gap === plan.count ? problem.rows : plan.starts[gap] - 1;
        if (!this.#windows.shortest(problem, from, to, need)) continue;
        const latencyNs = othersNs + problem.costs.of(this.#windows.length);
        if (latencyNs >= leastNs) continue;
        leastNs = latencyNs;
        bestRun = run;
        bestStart = this.#windows.start;
        bestLength = this.#windows.length;
      }
    }
    if (bestRun < 0) return false;
    plan.remove(bestRun);
    plan.insert(bestStart, bestStart + bestLength);
    plan.measure(problem);
    return true;
  }

  /** Replaces a run by the heaviest part of its room and the shortest other part that makes up for the rest. */
  #splitRun(problem: Problem, plan: RunList, target: number): boolean {
    if (plan.count >= FEW_PAIRS) return false;
    const windows = this.#windows;
    for (let run = 0; run < plan.count; run++) {
      const from = plan.roomStart(run);
      const to = plan.roomEnd(run, problem.rows);
      const length = plan.ends[run] - plan.starts[run];
      const need = runImportance(problem, plan, run) - (plan.importance - target);
      let leastNs = runNs(problem, plan, run) - LEAST_GAIN_NS;
      let bestStart = -1;
      let bestLength = 0;
      let otherStart = 0;
      let otherLength = 0;
      for (let part = 1; part < SPLITS; part++) {
        const tried = Math.floor((length * part) / SPLITS);
        if (tried < 1 || problem.costs.of(tried) >= leastNs) continue;
        const rest = need - windows.heaviest(problem, from, to, tried);
        const { start } = windows;
        for (let side = 0; side < 2; side++) {
          const low = side === 0 ? from : start + tried + 1;
          const high = side === 0 ? start - 1 : to;
          if (!windows.shortest(problem, low, high, rest)) continue;
          const latencyNs = problem.costs.of(tried) + problem.costs.of(windows.length);
          if (latencyNs >= leastNs) continue;
          leastNs = latencyNs;
          bestStart = start;
          bestLength = tried;
          otherStart = windows.start;
          otherLength = windows.length;
        }
      }
      if (bestStart < 0) continue;
      setRun(plan, run, bestStart, bestStart + bestLength);
      plan.insert(otherStart, otherStart + otherLength);
      plan.measure(problem);
      return true;
    }
    return false;
  }

  /** Adds the cheapest run that brings the plan to the target. */
  #addRun(problem: Problem, plan: RunList, target: number): void {
    const need = target - plan.importance;
    if (need <= 0) return;
    let bestStart = 0;
    let bestLength = Infinity;
    for (let gap = 0; gap <= plan.count; gap++) {
      const from = gap === 0 ? 0 : plan.ends[gap - 1] + 1;
      const to = gap === plan.count ? problem.rows : plan.starts[gap] - 1;
      if (!this.#windows.shortest(problem, from, to, need) || this.#windows.length >= bestLength)
        continue;
      bestStart = this.#windows.start;
      bestLength = this.#windows.length;
    }
    if (bestLength === Infinity) return;
    plan.insert(bestStart, bestStart + bestLength);
    plan.measure(problem);
  }

  /** Makes one run longer or shorter by powers of two while another makes up for it. */
  #improvePairs(problem: Problem, plan: RunList, target: number): void {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      let improved = false;
      for (let first = 0; first < plan.count && !improved; first++) {
        for (let second = 0; second < plan.count && !improved; second++) {
          if (first !== second) improved = this.#improvePair(problem, plan, first, second, target);
        }
      }
      if (!improved) return;
      this.#descend(problem, plan, target);
    }
  }

  #improvePair(
    problem: Problem,
    plan: RunList,
    first: number,
    second: number,
    target: number,
  ): boolean {
    const { costs, rows } = problem;
    const from = plan.roomStart(first);
    const to = plan.roomEnd(first, rows);
    const length = plan.ends[first] - plan.starts[first];
    const both = length + plan.ends[second] - plan.starts[second];
    const need =
      runImportance(problem, plan, first) +
      runImportance(problem, plan, second) -
      (plan.importance - target);
    let leastNs = runNs(problem, plan, first) + runNs(problem, plan, second) - LEAST_GAIN_NS;
    let found = false;
    let firstStart = 0;
    let firstLength = 0;
    let secondStart = 0;
    let secondLength = 0;
    for (let step = 1; step <= both; step *= 2) {
      for (let sign = -1; sign <= 1; sign += 2) {
        const tried = length + sign * step;
        if (tried < 1 || tried > to - from) continue;
        const triedNs = costs.of(tried);
        if (triedNs >= leastNs) continue;
        const rest = need - this.#windows.heaviest(problem, from, to, tried);
        const { start } = this.#windows;
        const low = second === first + 1 ? start + tried + 1 : plan.roomStart(second);
        const high = second === first - 1 ? start - 1 : plan.roomEnd(second, rows);
        const isEnough = rest <= 0;
        if (!isEnough && !this.#windows.shortest(problem, low, high, rest)) continue;
        const otherLength = isEnough ? 0 : this.#windows.length;
        const latencyNs = triedNs + costs.of(otherLength);
        if (latencyNs >= leastNs) continue;
        leastNs = latencyNs;
        found = true;
        firstStart = start;
        firstLength = tried;
        secondStart = this.#windows.start;
        secondLength = otherLength;
      }
    }
    if (!found) return false;
    setRun(plan, first, firstStart, firstStart + firstLength);
    setRun(plan, second, secondStart, secondStart + secondLength);
    plan.measure(problem);
    return true;
  }
}

function runImportance({ prefix }: Problem, plan: RunList, run: number): number {
  return prefix[plan.ends[run]] - prefix[plan.starts[run]];
}

function runNs({ costs }: Problem, plan: RunList, run: number): number {
  return costs.of(plan.ends[run] - plan.starts[run]);
}
