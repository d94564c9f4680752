import type { PricedPaths } from "./priced-paths.js";

/** Arcs that a plan faster than the best known may use, by the node they enter. */
export interface LiveArcs {
  /** Arcs into node `n` are entries `ends[n - 1] .. ends[n] - 1`, from 0 for node 0, `[rows + 2]`. */
  readonly ends: Int32Array;
  /** Nodes that the arcs leave, ascending inside a node. */
  readonly froms: Int32Array;
}

/** Arcs that are tried together; the bound of a block is loose by the cost of so many rows. */
const BLOCK_ROWS = 32;

/**
 * Reduced-cost fixing: an arc stays if, at every price, the cheapest path through it stays below the limit.
 * Nearly all of the rows^2 / 2 runs go when the gap between bound and best plan is small, most of them in blocks.
 *
 * @param prices At least one; the first should strike out the most.
 * @param fromStart What `fromStart()` of each returns.
 * @param limitNs Arcs of plans that are not faster need not stay.
 * @returns Nothing when more than `maxArcs` stay.
 */
export function findLiveArcs(
  prices: readonly PricedPaths[],
  fromStart: readonly Float64Array[],
  limitNs: number,
  maxArcs: number,
): LiveArcs | undefined {
  const { rows, runNs, prefix, needed } = prices[0].problem;
  const ends = new Int32Array(rows + 2);
  // Twice: both halves of a path are rounded.
  const slackNs = prices.map((paths) => 2 * paths.slackNs(limitNs));
  const blocks = new Blocks(prices[0], fromStart[0]);
  let froms = new Int32Array(4 * (rows + 2));
  let count = 0;
  for (let to = 1; to <= rows + 1; to++) {
    if (froms.length < count + to) froms = grown(froms, 2 * (count + to));
    const first = count;
    for (let index = 0; index < prices.length; index++) {
      const { price, toEnd } = prices[index];
      const start = fromStart[index];
      const rest = toEnd[to] + price * (needed - prefix[to - 1]) - slackNs[index] - limitNs;
      if (index === 0) count = blocks.append(to, rest, froms, first);
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

/** The least cost before an arc, by block of the nodes that arcs leave. */
class Blocks {
  readonly #least: Float64Array;
  readonly #runNs: Float64Array;

  constructor({ problem, price }: PricedPaths, start: Float64Array) {
    const { rows, prefix, runNs } = problem;
    this.#runNs = runNs;
    this.#least = new Float64Array(Math.ceil((rows + 1) / BLOCK_ROWS)).fill(Infinity);
    for (let from = 0; from <= rows; from++) {
      const block = Math.floor(from / BLOCK_ROWS);
      this.#least[block] = Math.min(this.#least[block], start[from] + price * prefix[from]);
    }
  }

  /** Writes all arcs into `to` of blocks that may be below 0 with `rest`; returns the end of what is written. */
  append(to: number, rest: number, froms: Int32Array, at: number): number {
    for (let block = 0; block * BLOCK_ROWS < to; block++) {
      const end = Math.min(to, (block + 1) * BLOCK_ROWS);
      // T does not decrease, so no run of the block costs less than its shortest.
      if (this.#least[block] + this.#runNs[to - end] + rest >= 0) continue;
      for (let from = block * BLOCK_ROWS; from < end; from++) froms[at++] = from;
    }
    return at;
  }
}

function grown(array: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(length);
  copy.set(array);
  return copy;
}
