/** Partial plans as columns: importance and latency so far, and the label that each extends. */
export class LabelList {
  count = 0;
  importance: Float64Array;
  latencyNs: Float64Array;
  /** Index of the label that this one extends; -1 for none. */
  parent: Int32Array;

  constructor(capacity: number) {
    this.importance = new Float64Array(capacity);
    this.latencyNs = new Float64Array(capacity);
    this.parent = new Int32Array(capacity);
  }

  /** Makes room for `more` labels. */
  reserve(more: number): void {
    const needed = this.count + more;
    if (needed <= this.parent.length) return;
    const capacity = needed + (needed >>> 1);
    const { importance, latencyNs, parent } = this;
    this.importance = new Float64Array(capacity);
    this.latencyNs = new Float64Array(capacity);
    this.parent = new Int32Array(capacity);
    this.importance.set(importance.subarray(0, this.count));
    this.latencyNs.set(latencyNs.subarray(0, this.count));
    this.parent.set(parent.subarray(0, this.count));
  }

  /** Appends without checking for room. */
  push(importance: number, latencyNs: number, parent: number): void {
    this.importance[this.count] = importance;
    this.latencyNs[this.count] = latencyNs;
    this.parent[this.count++] = parent;
  }
}

/**
 * Merges sorted stretches of labels into one, without those that another beats (no slower and no less
 * important). Ascending by latency and, as nothing beaten stays, by importance.
 *
 * @param labels Stretches one after the other, each sorted so; overwritten.
 * @param ends End of each stretch; overwritten.
 * @param spare Workspace.
 * @returns The list that holds the result: `labels` or `spare`.
 */
export function mergeStretches(labels: LabelList, ends: number[], spare: LabelList): LabelList {
  let from = labels;
  let into = spare;
  while (ends.length > 1) {
    into.count = 0;
    into.reserve(from.count);
    let start = 0;
    let merged = 0;
    for (let stretch = 0; stretch < ends.length; stretch += 2) {
      const middle = ends[stretch];
      const end = stretch + 1 < ends.length ? ends[stretch + 1] : middle;
      mergeTwo(from, start, middle, end, into);
      ends[merged++] = into.count;
      start = end;
    }
    ends.length = merged;
    [from, into] = [into, from];
  }
  return from;
}

function mergeTwo(
  from: LabelList,
  start: number,
  middle: number,
  end: number,
  into: LabelList,
): void {
  const { importance, latencyNs, parent } = from;
  let left = start;
  let right = middle;
  let highest = -Infinity;
  while (left < middle || right < end) {
    const isLeft = right >= end || (left < middle && comesFirst(from, left, right));
    const label = isLeft ? left++ : right++;
    if (importance[label] <= highest) continue;
    highest = importance[label];
    into.push(highest, latencyNs[label], parent[label]);
  }
}

function comesFirst({ latencyNs, importance }: LabelList, left: number, right: number): boolean {
  if (latencyNs[left] !== latencyNs[right]) return latencyNs[left] < latencyNs[right];
  return importance[left] >= importance[right];
}

/**
 * Thins a sorted list in place: labels no more than the tolerances apart count as equal, and the better in the
 * other measure stays. A label that goes leaves one behind that is at most one tolerance worse in each.
 */
export function dropNearTies(labels: LabelList, importanceTie: number, latencyTieNs: number): void {
  const { importance, latencyNs, parent, count } = labels;
  let kept = 0;
  // Latency of the fastest label that the last kept one stands for: without it, ties could chain.
  let anchorNs = -Infinity;
  for (let label = 0; label < count; label++) {
    if (kept > 0 && importance[label] <= importance[kept - 1] + importanceTie) continue;
    if (kept > 0 && latencyNs[label] <= anchorNs + latencyTieNs) kept--;
    else anchorNs = latencyNs[label];
    importance[kept] = importance[label];
    latencyNs[kept] = latencyNs[label];
    parent[kept++] = parent[label];
  }
  labels.count = kept;
}
