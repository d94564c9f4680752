import { dropNearTies, LabelList, mergeStretches } from "./label-list.js";
import type { LiveArcs } from "./live-arcs.js";
import type { PricedPaths } from "./priced-paths.js";
import {
  IMPORTANCE_TOLERANCE,
  improvementNs,
  LATENCY_TOLERANCE,
  sumRuns,
  type RunList,
  type RunProblem,
} from "./run-problem.js";

/** What a pass over the nodes found. */
export interface PassResult {
  /** Whether it reached the last node before the label limit. */
  readonly isComplete: boolean;
  /** Least bound of the labels that were left out for width, ns; Infinity if none. */
  readonly leftOutBoundNs: number;
}

/**
 * Label setting over the nodes from left to right. A label is a partial plan that ends at a node; it is kept unless
 * another at that node is no slower and no less important, or no completion of it can beat the best plan.
 */
export class LabelSearch {
  best: RunList;
  /** Labels made so far, over all passes. */
  labelsMade = 0;
  readonly #problem: RunProblem;
  /** Ascending price. */
  readonly #prices: readonly PricedPaths[];
  readonly #maxLabels: number;
  /** Labels of all nodes; node `n` has entries `#ends[n - 1] .. #ends[n] - 1`, ascending in both measures. */
  readonly #labels = new LabelList(1024);
  readonly #ends: Int32Array;
  readonly #arriving = new LabelList(1024);
  readonly #spare = new LabelList(1024);
  /** Bound at no importance by price, for the node at hand. */
  readonly #constants: Float64Array;
  readonly #slackNs: Float64Array;
  #boundsNs = new Float64Array(1024);
  #limitNs: number;
  /** The label and price whose completion is the best plan of this pass. */
  #bestLabel = -1;
  #bestNode = 0;
  #bestPrice = 0;

  constructor(
    problem: RunProblem,
    prices: readonly PricedPaths[],
    best: RunList,
    maxLabels: number,
  ) {
    this.#problem = problem;
    this.#prices = [...prices].sort((left, right) => left.price - right.price);
    this.#maxLabels = maxLabels;
    this.#ends = new Int32Array(problem.rows + 2);
    this.#constants = new Float64Array(prices.length);
    this.best = best;
    this.#slackNs = Float64Array.from(this.#prices, (paths) => paths.slackNs(best.latencyNs));
    this.#limitNs = improvementNs(best.latencyNs);
  }

  /** Latency below which a plan would be an improvement, ns. */
  get limitNs(): number {
    return this.#limitNs;
  }

  /** One pass that keeps at most `width` labels at each node, those of the least bound. */
  pass(arcs: LiveArcs, width: number): PassResult {
    const nodes = this.#problem.rows + 2;
    const labels = this.#labels;
    let leftOutBoundNs = Infinity;
    labels.count = 0;
    labels.push(0, 0, -1);
    this.#ends[0] = 1;
    this.#bestLabel = -1;
    let isComplete = true;
    for (let node = 1; node < nodes && isComplete; node++) {
      const list = this.#arrive(arcs, node);
      if (list.count > width) {
        leftOutBoundNs = Math.min(leftOutBoundNs, this.#narrow(list, node, width));
      }
      this.#append(list, node);
      this.#complete(node);
      isComplete = this.labelsMade <= this.#maxLabels;
    }
    if (this.#bestLabel >= 0) this.best = sumRuns(this.#problem, this.#bestPairs());
    return { isComplete, leftOutBoundNs };
  }

  /** Extends the labels of all nodes with an arc into this one. */
  #arrive(arcs: LiveArcs, node: number): LabelList {
    const { prefix, runNs, rows } = this.#problem;
    const { importance, latencyNs } = this.#labels;
    const arriving = this.#arriving;
    const constants = this.#constants;
    const prices = this.#prices;
    arriving.count = 0;
    const stretches: number[] = [];
    this.#loadConstants(node);
    for (let arc = arcs.ends[node - 1]; arc < arcs.ends[node]; arc++) {
      const from = arcs.froms[arc];
      const first = from === 0 ? 0 : this.#ends[from - 1];
      const gain = prefix[node - 1] - prefix[from];
      const cost = runNs[node - 1 - from];
      arriving.reserve(this.#ends[from] - first);
      // More importance asks for a lower price: the best one only moves down along the sorted labels.
      let at = prices.length - 1;
      for (let label = first; label < this.#ends[from]; label++) {
        const reached = importance[label] + gain;
        const spent = latencyNs[label] + cost;
        let bound = constants[at] - prices[at].price * reached;
        for (let lower; at > 0; at--, bound = lower) {
          lower = constants[at - 1] - prices[at - 1].price * reached;
          if (lower < bound) break;
        }
        if (spent + Math.max(bound, 0) < this.#limitNs) arriving.push(reached, spent, label);
      }
      const end = arriving.count;
      if (end > (stretches.at(-1) ?? 0)) stretches.push(end);
      // Here, not only after the node: a node in a wide pass may have a thousand arcs.
      if (this.labelsMade + end > this.#maxLabels) break;
    }
    this.labelsMade += arriving.count;
    const merged = mergeStretches(arriving, stretches, this.#spare);
    const steps = rows + 2;
    dropNearTies(
      merged,
      (IMPORTANCE_TOLERANCE * prefix[rows]) / steps,
      (LATENCY_TOLERANCE * this.#limitNs) / steps,
    );
    return merged;
  }

  #loadConstants(node: number): void {
    const { needed } = this.#problem;
    for (let index = 0; index < this.#prices.length; index++) {
      const { price, toEnd } = this.#prices[index];
      this.#constants[index] = price * needed + toEnd[node] - this.#slackNs[index];
    }
  }

  /** Leaves out all but the `width` labels with the least bounds; returns the least bound left out. */
  #narrow(list: LabelList, node: number, width: number): number {
    const { importance, latencyNs, parent, count } = list;
    if (this.#boundsNs.length < count) this.#boundsNs = new Float64Array(2 * count);
    const bounds = this.#boundsNs.subarray(0, count);
    this.#loadConstants(node);
    for (let label = 0; label < count; label++) {
      let bound = 0;
      for (let index = 0; index < this.#prices.length; index++) {
        const rest = this.#constants[index] - this.#prices[index].price * importance[label];
        if (rest > bound) bound = rest;
      }
      bounds[label] = latencyNs[label] + bound;
    }
    const sorted = bounds.slice().sort();
    const threshold = sorted[width];
    let tiesLeft = width - lowerBound(sorted, 0, count, threshold);
    let kept = 0;
    for (let label = 0; label < count; label++) {
      if (bounds[label] > threshold) continue;
      if (bounds[label] === threshold && tiesLeft-- <= 0) continue;
      importance[kept] = importance[label];
      latencyNs[kept] = latencyNs[label];
      parent[kept++] = parent[label];
    }
    list.count = kept;
    return threshold;
  }

  #append(list: LabelList, node: number): void {
    const labels = this.#labels;
    labels.reserve(list.count);
    for (let label = 0; label < list.count; label++) {
      labels.push(list.importance[label], list.latencyNs[label], list.parent[label]);
    }
    this.#ends[node] = labels.count;
  }

  /** Tries the best completion at each price of each label of a node. */
  #complete(node: number): void {
    const { importance, latencyNs } = this.#labels;
    const { needed } = this.#problem;
    for (let index = 0; index < this.#prices.length; index++) {
      const paths = this.#prices[index];
      const missing = needed - paths.importanceToEnd[node];
      const rest = paths.latencyToEnd[node];
      const label = lowerBound(importance, this.#ends[node - 1], this.#ends[node], missing);
      // Ascending latency: the first that has enough importance is the fastest.
      if (label === this.#ends[node] || latencyNs[label] + rest >= this.#limitNs) continue;
      this.#bestLabel = label;
      this.#bestNode = node;
      this.#bestPrice = index;
      this.#limitNs = improvementNs(latencyNs[label] + rest);
    }
  }

  /** Runs of the best plan of this pass. */
  #bestPairs(): number[] {
    const nodes: number[] = [];
    for (let label = this.#bestLabel; label >= 0; label = this.#labels.parent[label]) {
      nodes.push(this.#nodeOf(label));
    }
    nodes.reverse();
    const pairs: number[] = [];
    for (let index = 1; index < nodes.length; index++) {
      if (nodes[index] > nodes[index - 1] + 1) pairs.push(nodes[index - 1], nodes[index] - 1);
    }
    this.#prices[this.#bestPrice].appendRuns(this.#bestNode, pairs);
    return pairs;
  }

  /** Node of a label of the best plan; entries of nodes further right may be those of an earlier pass. */
  #nodeOf(label: number): number {
    return lowerBound(this.#ends, 0, this.#bestNode, label + 1);
  }
}

/** First index in `[from, to)` of an ascending array whose value is at least `least`; `to` if none. */
function lowerBound(values: ArrayLike<number>, from: number, to: number, least: number): number {
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (values[middle] < least) from = middle + 1;
    else to = middle;
  }
  return to;
}
