import { budgetRows, createSelector } from "@neuron-chunking/chunk-selector";
import type { Selector, SensitivityPoint } from "@neuron-chunking/chunk-selector";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import type { Tensor } from "../backend/compute-backend.js";
import type { Pass } from "../chunked-linear.js";
import type { RunState } from "../decoder.js";
import type { KvCache } from "../kv-cache.js";
import type { Model } from "../model.js";
import type { RowChoice, RowChooser } from "../selection/row-chooser.js";

/** Matrices whose loss shows in the keys and values that the layer stores. */
const ATTENTION_INPUTS: ReadonlySet<string> = new Set(["attn_in", "q", "k", "v"]);

/** Every row of every matrix, but of one only the most important ones (none: all dense). */
class OneSparse implements RowChooser {
  private readonly dense: Selector;
  private readonly topk: Selector;
  private sparse: { readonly name: string; readonly sparsity: number } | undefined;

  constructor(maxRows: number) {
    this.dense = createSelector("dense", { maxRows });
    this.topk = createSelector("topk", { maxRows });
  }

  /** The matrix to leave rows out of from now on. */
  set(sparse: { readonly name: string; readonly sparsity: number } | undefined): this {
    this.sparse = sparse;
    return this;
  }

  usesImportance(info: BundleInfo): boolean {
    return info.name === this.sparse?.name;
  }

  choose({ name, rows, rowBytes }: BundleInfo, importance: Float32Array): RowChoice {
    const request = { importance, rows, rowBytes };
    if (name !== this.sparse?.name) return { plan: this.dense.select(request) };
    const budget = budgetRows(rows, this.sparse.sparsity);
    return { plan: this.topk.select({ ...request, budgetRows: budget }) };
  }
}

/** Sums over the measured passes of one matrix at one sparsity. */
interface PointSums {
  readonly sparsity: number;
  lostShare: number;
  error: number;
}

/**
 * How much each stored matrix's loss hurts its layer: a layer is run on its input with every row, then again with
 * one matrix after the other kept to its most important rows at each of `levels`, and the outputs are compared.
 * Nothing but that layer runs again, and what goes on to the next layer is the dense output.
 */
export class Sensitivity {
  private readonly rows: OneSparse;
  private readonly sums = new Map<string, PointSums[]>();
  private readonly layers: readonly (readonly BundleInfo[])[];
  private passes = 0;

  /**
   * @param bundles every stored matrix of the model
   * @param levels sparsities, ascending, each above 0 and at most 1
   */
  constructor(
    private readonly model: Model,
    bundles: readonly BundleInfo[],
    levels: readonly number[],
  ) {
    this.rows = new OneSparse(Math.max(...bundles.map(({ rows }) => rows)));
    for (const { name } of bundles) {
      this.sums.set(
        name,
        levels.map((sparsity) => ({ sparsity, lostShare: 0, error: 0 })),
      );
    }
    this.layers = Array.from({ length: model.config.decoder.layerCount }, (_, layer) =>
      bundles
        .filter((info) => info.layer === layer)
        // The last runs of a layer must leave dense keys and values behind.
        .sort(
          (a, b) => Number(ATTENTION_INPUTS.has(b.kind)) - Number(ATTENTION_INPUTS.has(a.kind)),
        ),
    );
  }

  get measuredPasses(): number {
    return this.passes;
  }

  /** Mean over the measured passes. */
  points(bundle: string): SensitivityPoint[] {
    return (this.sums.get(bundle) ?? []).map(({ sparsity, lostShare, error }) => ({
      sparsity,
      lostShare: lostShare / this.passes,
      error: error / this.passes,
    }));
  }

  /** One pass through all layers, dense, with no measurement. */
  async runDense(state: RunState, cache: KvCache, pass: Omit<Pass, "rows">): Promise<void> {
    await this.model.decoder.forward(state, cache, { ...pass, rows: this.rows.set(undefined) });
  }

  /** As `runDense`, measuring every matrix at every level on the way. */
  async measure(state: RunState, cache: KvCache, pass: Omit<Pass, "rows">): Promise<void> {
    const { decoder } = this.model;
    const size = state.h.rows * state.h.columns;
    const input = new Float32Array(size);
    const dense = new Float32Array(size);
    const lossy = new Float32Array(size);
    for (let layer = 0; layer < this.layers.length; layer++) {
      await this.read(state.h, input);
      await decoder.forwardLayer(layer, state, cache, { ...pass, rows: this.rows.set(undefined) });
      await this.read(state.h, dense);
      for (const { name } of this.layers[layer]) {
        for (const sums of this.sums.get(name) ?? []) {
          this.write(input, state.h);
          const projections: Pass["projections"] = [];
          const rows = this.rows.set({ name, sparsity: sums.sparsity });
          await decoder.forwardLayer(layer, state, cache, {
            signal: pass.signal,
            projections,
            rows,
          });
          await this.read(state.h, lossy);
          const kept = projections.find(({ bundle }) => bundle === name)?.importanceKept ?? 1;
          sums.lostShare += 1 - kept;
          sums.error += relativeError(lossy, dense);
        }
      }
      this.write(dense, state.h);
    }
    this.passes += 1;
  }

  private async read(from: Tensor, into: Float32Array): Promise<void> {
    await this.model.backend.read(from, 0, into);
  }

  private write(values: Float32Array, to: Tensor): void {
    this.model.backend.write(values, to, 0);
  }
}

/** `|a - b| / |b|`, L2; 0 where `b` is 0. */
function relativeError(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return norm > 0 ? Math.sqrt(difference / norm) : 0;
}
