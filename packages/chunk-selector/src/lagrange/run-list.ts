import type { PlanBuilder } from "../plan-builder.js";
import type { Problem } from "./problem.js";

/** Maximal runs of selected rows in ascending order, with what they are worth. A workspace: edited in place. */
export class RunList {
  /** First row of each run, `[>= count]`. */
  readonly starts: Int32Array;
  /** One past the last row of each run, `[>= count]`. */
  readonly ends: Int32Array;
  count = 0;
  /** Sum of the importance of all rows. */
  importance = 0;
  /** Sum of the costs of all runs, ns. */
  latencyNs = 0;
  /** Number of rows. */
  selectedRows = 0;

  /** @param maxRows maximal runs number at most half of them; pieces of two such lists, all of them. */
  constructor(maxRows: number) {
    this.starts = new Int32Array(maxRows + 2);
    this.ends = new Int32Array(maxRows + 2);
  }

  clear(): void {
    this.count = 0;
    this.importance = 0;
    this.latencyNs = 0;
    this.selectedRows = 0;
  }

  /** Appends rows that start at or after the last end; touching runs become one. Sums are not kept: `measure`. */
  append(start: number, end: number): void {
    if (start >= end) return;
    if (this.count > 0 && this.ends[this.count - 1] === start) {
      this.ends[this.count - 1] = end;
    } else {
      this.starts[this.count] = start;
      this.ends[this.count++] = end;
    }
  }

  /** Brings the sums up to date. */
  measure({ prefix, costs }: Problem): void {
    let importance = 0;
    let latencyNs = 0;
    let selectedRows = 0;
    for (let run = 0; run < this.count; run++) {
      const start = this.starts[run];
      const end = this.ends[run];
      importance += prefix[end] - prefix[start];
      latencyNs += costs.of(end - start);
      selectedRows += end - start;
    }
    this.importance = importance;
    this.latencyNs = latencyNs;
    this.selectedRows = selectedRows;
  }

  copyFrom(other: RunList): void {
    for (let run = 0; run < other.count; run++) {
      this.starts[run] = other.starts[run];
      this.ends[run] = other.ends[run];
    }
    this.count = other.count;
    this.importance = other.importance;
    this.latencyNs = other.latencyNs;
    this.selectedRows = other.selectedRows;
  }

  /** From runs of cells of `cellRows` rows to runs of rows; the last cell may be shorter. */
  toRows(cellRows: number, rows: number): void {
    if (cellRows === 1) return;
    for (let run = 0; run < this.count; run++) {
      this.starts[run] *= cellRows;
      this.ends[run] = Math.min(rows, this.ends[run] * cellRows);
    }
  }

  remove(run: number): void {
    this.starts.copyWithin(run, run + 1, this.count);
    this.ends.copyWithin(run, run + 1, this.count);
    this.count--;
  }

  /** Adds a run that touches no other. */
  insert(start: number, end: number): void {
    let run = 0;
    while (run < this.count && this.starts[run] < start) run++;
    this.starts.copyWithin(run + 1, run, this.count);
    this.ends.copyWithin(run + 1, run, this.count);
    this.starts[run] = start;
    this.ends[run] = end;
    this.count++;
  }

  /** First row that run `run` could grow back to without touching the one before it. */
  roomStart(run: number): number {
    return run === 0 ? 0 : this.ends[run - 1] + 1;
  }

  /** One past the last row that run `run` could grow to without touching the one after it. */
  roomEnd(run: number, rows: number): number {
    return run + 1 >= this.count ? rows : this.starts[run + 1] - 1;
  }

  writeTo(plan: PlanBuilder): void {
    plan.clear();
    for (let run = 0; run < this.count; run++) {
      plan.add(this.starts[run], this.ends[run] - this.starts[run]);
    }
  }
}
