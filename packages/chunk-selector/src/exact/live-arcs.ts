import type { PricedPaths } from "./priced-paths.js";

/** Arcs that a plan faster than the best known may use, by the node they enter. */
export interface LiveArcs {
  /** Arcs into node `n` are entries `ends[n - 1] .. ends[n] - 1`, from 0 for node 0, `[rows + 2]`. */
  readonly ends: Int32Array;
  /** Nodes that the arcs leave, ascending inside a node. */
  readonly froms: Int32Array;
}

/**
 * Reduced-cost fixing: an arc stays if, at every price, the cheapest path through it stays below the limit.
 * Nearly all of the rows^2 / 2 runs go when the gap between bound and best plan is small. O(rows^2) per price.
 *
 * @returns Nothing when more than `maxArcs` stay.
 */
export function findLiveArcs(
  prices: readonly PricedPaths[],
  fromStart: readonly Float64Array[],
  limitNs: number,
  maxArcs: number,
): LiveArcs | undefined {
  const { rows, runNs, prefix } = prices[0].problem;
  const ends = new Int32Array(rows + 2);
  let froms = new Int32Array(4 * (rows + 2));
  // Twice: both halves of a path are rounded.
  const slack = prices.map((paths) => 2 * paths.slackNs(limitNs));
  let count = 0;
  for (let to = 1; to <= rows + 1; to++) {
    if (froms.length < count + to) froms = grown(froms, 2 * (count + to));
    const first = count;
    for (let from = 0; from < to; from++) froms[count++] = from;
    for (let index = 0; index < prices.length; index++) {
      const { price, toEnd, problem } = prices[index];
      const start = fromStart[index];
      const rest = toEnd[to] + price * (problem.needed - prefix[to - 1]) - slack[index] - limitNs;
      let kept = first;
      for (let arc = first; arc < count; arc++) {
        const from = froms[arc];
        froms[kept] = from;
        kept += start[from] + runNs[to - 1 - from] + price * prefix[from] + rest < 0 ? 1 : 0;
      }
      count = kept;
    }
    ends[to] = count;
    if (count > maxArcs) return undefined;
  }
  return { ends, froms };
}

function grown(array: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(length);
  copy.set(array);
  return copy;
}
