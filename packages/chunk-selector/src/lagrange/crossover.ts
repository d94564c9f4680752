import type { Problem } from "./problem.js";
import type { RunList } from "./run-list.js";

/** What may be taken of the difference of two plans, and how much is wanted. */
export type Quantity = "importance" | "latencyNs" | "selectedRows";

/**
 * Plans between two optimal ones.
 *
 * Let `frugal` be optimal at a higher price than `generous`. Where both are in the same state of the dynamic program (neither
 * selects the row, or both are at least `joinRows` into a run) one may change from one to the other, and the rows between
 * two such places, a *component*, can be taken from either plan independently of the rest. Taking components in the
 * order of latency per importance walks the lower convex hull from one plan to the other, which is what ever
 * finer prices would do, at the cost of one pass over the runs.
 */
export class Crossover {
  /** Components are rows `[starts, ends)` where the plans differ. */
  readonly #starts: Int32Array;
  readonly #ends: Int32Array;
  /** What generous has more than frugal in each. */
  readonly #importance: Float64Array;
  readonly #latencyNs: Float64Array;
  readonly #rows: Int32Array;
  /** Latency per importance. */
  readonly #ratios: Float64Array;
  /** Components by ratio as far as needed. */
  readonly #order: Int32Array;
  readonly #taken: Uint8Array;
  #count = 0;

  constructor(maxRows: number) {
    // Two at most for each run of either plan, and the two have at most maxRows + 1 runs together.
    const capacity = 2 * maxRows + 4;
    this.#starts = new Int32Array(capacity);
    this.#ends = new Int32Array(capacity);
    this.#importance = new Float64Array(capacity);
    this.#latencyNs = new Float64Array(capacity);
    this.#rows = new Int32Array(capacity);
    this.#ratios = new Float64Array(capacity);
    this.#order = new Int32Array(capacity);
    this.#taken = new Uint8Array(capacity);
  }

  /**
   * Fills `out` with frugal and as many components of generous as fit.
   *
   * @param room how much more of `quantity` than frugal has may be taken.
   * @param overfill take the component that passes `room` too: enough, instead of not too much.
   */
  fill(
    problem: Problem,
    frugal: RunList,
    generous: RunList,
    quantity: Quantity,
    room: number,
    overfill: boolean,
    out: RunList,
  ): void {
    this.#count = 0;
    this.#findComponents(problem.costs.joinRows, frugal, generous);
    this.#weigh(problem, frugal, generous);
    this.#take(quantity, room, overfill);
    this.#assemble(problem, frugal, generous, out);
  }

  /** Everything between two places where both plans are in the same state; equal rows inside do no harm. */
  #findComponents(joinRows: number, a: RunList, b: RunList): void {
    let runA = 0;
    let runB = 0;
    let start = 0;
    let end = -1; // of the component under construction: none yet
    while (runA < a.count || runB < b.count) {
      const startA = runA < a.count ? a.starts[runA] : Infinity;
      const startB = runB < b.count ? b.starts[runB] : Infinity;
      const endA = runA < a.count ? a.ends[runA] : Infinity;
      const endB = runB < b.count ? b.ends[runB] : Infinity;
      const first = Math.min(startA, startB);
      if (first > end) {
        // No plan selects the rows between.
        if (end >= 0) this.#push(start, end);
        start = first;
      }
      const bothLong = Math.max(startA, startB) + joinRows;
      const bothEnd = Math.min(endA, endB);
      if (bothLong <= bothEnd) {
        this.#push(start, bothLong);
        start = bothEnd;
      }
      end = Math.max(end, bothEnd);
      if (endA <= endB) runA++;
      else runB++;
      // A run of the other plan that has begun is not over yet.
      if (endA <= endB ? startB < end : startA < end) end = Math.max(endA, endB);
    }
    if (end >= 0) this.#push(start, end);
  }

  #push(start: number, end: number): void {
    if (start === end) return;
    this.#starts[this.#count] = start;
    this.#ends[this.#count++] = end;
  }

  #weigh(problem: Problem, frugal: RunList, generous: RunList): void {
    this.#importance.fill(0, 0, this.#count);
    this.#latencyNs.fill(0, 0, this.#count);
    this.#rows.fill(0, 0, this.#count);
    this.#addPieces(problem, frugal, -1);
    this.#addPieces(problem, generous, 1);
  }

  /** A run that began before a component is long by then, and pays by the row. */
  #addPieces({ prefix, costs }: Problem, plan: RunList, sign: 1 | -1): void {
    let run = 0;
    for (let component = 0; component < this.#count; component++) {
      const from = this.#starts[component];
      const to = this.#ends[component];
      while (run < plan.count && plan.ends[run] <= from) run++;
      for (let piece = run; piece < plan.count && plan.starts[piece] < to; piece++) {
        const isNew = plan.starts[piece] >= from;
        const start = isNew ? plan.starts[piece] : from;
        const end = Math.min(plan.ends[piece], to);
        const length = end - start;
        this.#importance[component] += sign * (prefix[end] - prefix[start]);
        this.#latencyNs[component] +=
          sign * (isNew ? costs.of(length) : costs.tailNsPerRow * length);
        this.#rows[component] += sign * length;
      }
    }
  }

  #take(quantity: Quantity, room: number, overfill: boolean): void {
    const order = this.#order;
    let candidates = 0;
    for (let component = 0; component < this.#count; component++) {
      this.#taken[component] = 0;
      const importance = this.#importance[component];
      const latencyNs = this.#latencyNs[component];
      // By optimality both are at least 0; rounding may leave a trace of less.
      if (importance <= 0) continue;
      this.#ratios[component] = latencyNs / importance;
      order[candidates++] = component;
    }
    const amounts = this.#amounts(quantity);
    let left = room;
    let from = 0;
    let to = candidates;
    // Quickselect by ratio: whole lower parts are taken until the one component that does not fit is alone.
    while (from < to) {
      const middle = this.#partition(from, to);
      let sum = 0;
      for (let slot = from; slot < middle; slot++) sum += amounts[order[slot]];
      if (sum <= left && middle > from) {
        for (let slot = from; slot < middle; slot++) this.#taken[order[slot]] = 1;
        left -= sum;
        from = middle;
      } else if (middle < to) {
        to = middle;
      } else {
        break;
      }
    }
    this.#takeLast(amounts, from, candidates, left, overfill);
  }

  #amounts(quantity: Quantity): Float64Array | Int32Array {
    if (quantity === "importance") return this.#importance;
    return quantity === "latencyNs" ? this.#latencyNs : this.#rows;
  }

  /** Of what is left: all that fits, or the fastest component that is enough. */
  #takeLast(
    amounts: Float64Array | Int32Array,
    from: number,
    to: number,
    room: number,
    overfill: boolean,
  ): void {
    const order = this.#order;
    let best = -1;
    let left = room;
    for (let slot = from; slot < to; slot++) {
      const component = order[slot];
      if (overfill) {
        const isEnough = amounts[component] >= left;
        if (isEnough && (best < 0 || this.#latencyNs[component] < this.#latencyNs[best])) {
          best = component;
        }
      } else if (amounts[component] <= left) {
        this.#taken[component] = 1;
        left -= amounts[component];
      }
    }
    if (best >= 0 && left > 0) this.#taken[best] = 1;
  }

  /**
   * Splits `order[from .. to - 1]` by ratio; returns where the upper part starts. Both parts are non-empty unless there is
   * only one component.
   */
  #partition(from: number, to: number): number {
    const order = this.#order;
    const ratios = this.#ratios;
    if (to - from < 2) return to;
    const pivot = median(
      ratios[order[from]],
      ratios[order[(from + to) >>> 1]],
      ratios[order[to - 1]],
    );
    let low = from;
    let high = to - 1;
    for (;;) {
      while (ratios[order[low]] < pivot) low++;
      while (ratios[order[high]] > pivot) high--;
      if (low >= high) break;
      const swapped = order[low];
      order[low++] = order[high];
      order[high--] = swapped;
    }
    return low === from ? from + 1 : low;
  }

  #assemble(problem: Problem, frugal: RunList, generous: RunList, out: RunList): void {
    out.clear();
    let runF = 0;
    let runG = 0;
    let row = 0;
    for (let component = 0; component <= this.#count; component++) {
      const isPast = component === this.#count;
      const start = isPast ? problem.rows : this.#starts[component];
      // Between components the plans agree.
      runF = copyRows(frugal, runF, row, start, out);
      if (isPast) break;
      row = this.#ends[component];
      if (this.#taken[component] === 1) runG = copyRows(generous, runG, start, row, out);
      else runF = copyRows(frugal, runF, start, row, out);
    }
    out.measure(problem);
  }
}

/** Appends what `plan` selects of rows `[from, to)`; returns the first run that may reach past `to`. */
function copyRows(plan: RunList, run: number, from: number, to: number, out: RunList): number {
  while (run < plan.count && plan.ends[run] <= from) run++;
  let piece = run;
  for (; piece < plan.count && plan.starts[piece] < to; piece++) {
    out.append(Math.max(plan.starts[piece], from), Math.min(plan.ends[piece], to));
  }
  return piece > run ? piece - 1 : run;
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}
