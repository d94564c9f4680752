import type { Problem } from "./problem.js";

/** The start of the best window, and its length, that the last search found. One at a time: read before the next. */
export class WindowSearch {
  start = 0;
  length = 0;

  /** The shortest window of at least one row within `[from, to)` of at least this importance; false when there is none. */
  shortest({ prefix }: Problem, from: number, to: number, need: number): boolean {
    let bestLength = Infinity;
    let end = from;
    for (let start = from; start < to; start++) {
      if (end === start) end++;
      while (end < to && prefix[end] - prefix[start] < need) end++;
      if (prefix[end] - prefix[start] < need) break;
      if (end - start >= bestLength) continue;
      bestLength = end - start;
      this.start = start;
    }
    this.length = bestLength;
    return bestLength !== Infinity;
  }

  /** The window of exactly `length` rows, at most `to - from`, within `[from, to)` of most importance, which it returns. */
  heaviest({ prefix }: Problem, from: number, to: number, length: number): number {
    let most = -1;
    this.length = length;
    for (let start = from; start + length <= to; start++) {
      const importance = prefix[start + length] - prefix[start];
      if (importance <= most) continue;
      most = importance;
      this.start = start;
    }
    return most;
  }
}
