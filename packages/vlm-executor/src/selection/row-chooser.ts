import type { ChunkPlan } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";

/**
 * What a pass of the policy `lagrange` may spend, where not the importance of top-k decides: for all matrices one
 * price, or, in the first pass of a phase, when no price is known yet, the same share for each.
 */
export type PassTerms =
  /** Error of a layer's output (relative, L2) that one nanosecond of modelled latency must save. */
  | { readonly kind: "price"; readonly errorPerNs: number }
  /** Latency of each matrix as a share of its dense latency; above 1 where there is room to spare. */
  | { readonly kind: "latencyShare"; readonly share: number }
  /** Share of each input's importance that may be lost, 0 to 1. */
  | { readonly kind: "lostShare"; readonly share: number };

/** Chosen rows. The object and its plan are valid until the chooser's next `choose`. */
export interface RowChoice {
  readonly plan: ChunkPlan;
  /** The price in the input's importance per ns at which they were chosen; policy `lagrange` only. */
  readonly pricePerNs?: number;
  /** The same in error of the layer's output per ns; with a calibration only. */
  readonly errorPerNs?: number;
}

/** Decides which rows of each stored matrix a pass reads. */
export interface RowChooser {
  /** Whether `choose` looks at the importance; it is not computed otherwise. */
  usesImportance(info: BundleInfo): boolean;
  /**
   * @param importance of the input's channels in stored order [rows]
   * @param residentRows rows from the first on that are multiplied whatever is chosen, from memory: free, and none of
   *   them is in the plan; 0 where absent
   * @throws ChunkSelectorError
   */
  choose(
    info: BundleInfo,
    importance: Float32Array,
    terms: PassTerms | undefined,
    residentRows?: number,
  ): RowChoice;
}
