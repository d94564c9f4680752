import type { Problem } from "./problem.js";
import { RunList } from "./run-list.js";
import { WindowSearch } from "./windows.js";

/** Enough for what is left after a crossover: each round leaves less. */
const MAX_ROUNDS = 24;

/** Among more runs than this a new one is not looked for: what is left of the budget is small against the plan. */
const FEW_RUNS = 16;

/** What a plan may cost. */
export interface Limits {
  /** Infinity for no limit. */
  readonly latencyNs: number;
  readonly selectedRows: number;
}

/** Spends what a plan leaves of a budget. */
export class Growth {
  readonly #windows = new WindowSearch();
  readonly #kept: RunList;
  /** The best step of a round: `run` becomes rows `[start, end)`, or there is a new run of them. */
  #run = 0;
  #isNew = false;
  #start = 0;
  #end = 0;
  #gained = 0;

  constructor(maxRows: number) {
    this.#kept = new RunList(maxRows);
  }

  /**
   * Again and again the step that adds most importance: extending a run as far as it fits, or, among few runs, adding
   * one. A plan of few runs is also tried from nothing, where no price leads (small matrices: any price reads one long run or none).
   *
   * @param plan within `limits`.
   */
  fill(problem: Problem, plan: RunList, limits: Limits): void {
    this.#grow(problem, plan, limits);
    if (plan.count > FEW_RUNS) return;
    const kept = this.#kept;
    kept.copyFrom(plan);
    plan.clear();
    this.#grow(problem, plan, limits);
    if (plan.importance <= kept.importance) plan.copyFrom(kept);
  }

  #grow(problem: Problem, plan: RunList, limits: Limits): void {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      this.#gained = 0;
      for (let run = 0; run < plan.count; run++) this.#tryExtending(problem, plan, limits, run);
      if (plan.count < FEW_RUNS) this.#tryAdding(problem, plan, limits);
      if (this.#gained === 0) return;
      if (this.#isNew) {
        plan.insert(this.#start, this.#end);
      } else {
        plan.starts[this.#run] = this.#start;
        plan.ends[this.#run] = this.#end;
      }
      plan.measure(problem);
    }
  }

  #tryExtending(problem: Problem, plan: RunList, limits: Limits, run: number): void {
    const { prefix, rows } = problem;
    const start = plan.starts[run];
    const end = plan.ends[run];
    const more = longest(problem, plan, limits, end - start) - (end - start);
    if (more <= 0) return;
    const later = Math.min(plan.roomEnd(run, rows), end + more);
    const earlier = Math.max(plan.roomStart(run), start - more);
    this.#offer(prefix[later] - prefix[end], false, run, start, later);
    this.#offer(prefix[start] - prefix[earlier], false, run, earlier, end);
  }

  #tryAdding(problem: Problem, plan: RunList, limits: Limits): void {
    const most = longest(problem, plan, limits, 0);
    if (most <= 0) return;
    const windows = this.#windows;
    for (let gap = 0; gap <= plan.count; gap++) {
      const from = gap === 0 ? 0 : plan.ends[gap - 1] + 1;
      const to = gap === plan.count ? problem.rows : plan.starts[gap] - 1;
      const length = Math.min(most, to - from);
      if (length <= 0) continue;
      const gained = windows.heaviest(problem, from, to, length);
      this.#offer(gained, true, gap, windows.start, windows.start + length);
    }
  }

  #offer(gained: number, isNew: boolean, run: number, start: number, end: number): void {
    if (gained <= this.#gained) return;
    this.#gained = gained;
    this.#isNew = isNew;
    this.#run = run;
    this.#start = start;
    this.#end = end;
  }
}

/** The longest that a run of `length` rows of the plan, or a new one, may become; less than `length` where even it is too much. */
function longest({ costs, rows }: Problem, plan: RunList, limits: Limits, length: number): number {
  const byRows = Math.min(rows, length + limits.selectedRows - plan.selectedRows);
  const leftNs = limits.latencyNs - plan.latencyNs + costs.of(length);
  if (leftNs === Infinity) return byRows;
  let low = length;
  let high = Math.max(length, byRows);
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (costs.of(middle) <= leftNs) low = middle;
    else high = middle - 1;
  }
  return low;
}
