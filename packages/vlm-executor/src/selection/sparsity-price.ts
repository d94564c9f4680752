import { budgetRows, createSelector } from "@neuron-chunking/chunk-selector";
import type { LagrangeSelector } from "@neuron-chunking/chunk-selector";
import type { LatencyTable } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";

/** A stored matrix with an input to try prices on. */
export interface TriedMatrix {
  readonly info: Pick<BundleInfo, "rows" | "rowBytes">;
  /** Error of the layer's output per share of importance lost. */
  readonly weight: number;
  /** [rows] in stored order */
  readonly importance: Float32Array;
}

/** Read time above what is wanted that is close enough, relative; as close as prices come to each other where it jumps. */
const CLOSE_NS = 0.005;
const CLOSE_PRICE = 0.02;
const MOST_STEPS = 40;
/** Where only one side is known: how the logarithm of the price answers to that of the read time, about, and how far to go. */
const RESPONSE = 2;
const LEAST_STEP = 0.1;
const MOST_STEP = 3;

/**
 * The price, error of a layer's output per ns, at which these inputs take the modelled read time that they take at equal
 * importance: each matrix with at least what top-k keeps of its input at `sparsity`.
 *
 * @param sparsity above 0
 */
export function priceOfSparsity(
  matrices: readonly TriedMatrix[],
  sparsity: number,
  table: LatencyTable,
): number {
  const maxRows = matrices.reduce((most, { info }) => Math.max(most, info.rows), 1);
  const trial = new Trial(matrices, createSelector("lagrange", { maxRows }), table);
  const { readNs, price } = trial.atEqualImportance(sparsity);
  if (readNs === 0) return price;
  // Logarithms: of prices, and of the read times there over what is wanted. What is read falls with the price.
  const low = { price: -Infinity, ratio: Infinity };
  const high = { price: Infinity, ratio: -Infinity };
  let at = Math.log(price);
  for (let step = 0; step < MOST_STEPS; step++) {
    const ratio = Math.log(trial.readNsAt(Math.exp(at)) / readNs);
    Object.assign(ratio >= 0 ? low : high, { price: at, ratio });
    if ((ratio >= 0 && ratio <= CLOSE_NS) || high.price - low.price <= CLOSE_PRICE) break;
    if (low.price === -Infinity || high.price === Infinity) {
      const away = Math.min(MOST_STEP, LEAST_STEP + RESPONSE * Math.abs(ratio));
      at += ratio >= 0 ? away : -away;
      continue;
    }
    // Where nothing is read the logarithm is no help.
    const share = Number.isFinite(high.ratio) ? low.ratio / (low.ratio - high.ratio) : 0.5;
    at = low.price + Math.min(0.8, Math.max(0.2, share)) * (high.price - low.price);
  }
  return Math.exp(low.price === -Infinity ? at : low.price);
}

/** What a pass of the given inputs would read. */
class Trial {
  private readonly totals: readonly number[];

  constructor(
    private readonly matrices: readonly TriedMatrix[],
    private readonly selector: LagrangeSelector,
    private readonly table: LatencyTable,
  ) {
    this.totals = matrices.map(({ importance }) => importance.reduce((sum, v) => sum + v, 0));
  }

  /** Modelled read time, and the mean, by logarithm, of the prices that the matrices come to. */
  atEqualImportance(sparsity: number): { readNs: number; price: number } {
    let readNs = 0;
    let logs = 0;
    let priced = 0;
    for (const [i, { info, weight, importance }] of this.matrices.entries()) {
      const { rows, rowBytes } = info;
      const { selector, table } = this;
      const matchTopkRows = budgetRows(rows, sparsity);
      selector.select({ importance, rows, rowBytes, table, matchTopkRows, effort: "quick" });
      const { latencyNs, pricePerNs } = selector.solution;
      readNs += latencyNs;
      if (!(pricePerNs > 0 && Number.isFinite(pricePerNs) && this.totals[i] > 0)) continue;
      logs += Math.log((pricePerNs * weight) / this.totals[i]);
      priced += 1;
    }
    return { readNs, price: priced > 0 ? Math.exp(logs / priced) : this.breakEven() };
  }

  readNsAt(price: number): number {
    let readNs = 0;
    for (const [i, { info, weight, importance }] of this.matrices.entries()) {
      // Nothing is worth reading for an input of zeros, at any price.
      if (this.totals[i] === 0) continue;
      const { rows, rowBytes } = info;
      const pricePerNs = (price * this.totals[i]) / weight;
      this.selector.select({ importance, rows, rowBytes, table: this.table, pricePerNs });
      readNs += this.selector.solution.latencyNs;
    }
    return readNs;
  }

  /** The worth of everything over its cost. */
  private breakEven(): number {
    let worth = 0;
    let denseNs = 0;
    for (const { info, weight } of this.matrices) {
      worth += weight;
      denseNs += this.table.latencyNs(info.rows * info.rowBytes);
    }
    return worth / denseNs;
  }
}
