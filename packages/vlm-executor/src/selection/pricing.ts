import { PriceController } from "@neuron-chunking/chunk-selector";
import type { SelectionLimit } from "@neuron-chunking/chunk-selector";
import type { LatencyTable } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import type { Phase, StepTrace } from "../trace.js";
import type { PassTerms } from "./row-chooser.js";
import type { CalibratedWeights, PriceSettings } from "./settings.js";

/**
 * Finds the model's one price, pass by pass: the first pass of a phase gives every matrix the same share of what the
 * target allows, the prices that this comes to (their mean) are the first guess, and a controller takes over from
 * there. Phases (prefill, frames, decode) differ in their inputs, so each has a controller of its own.
 * The state belongs to the model: sessions that take turns profit from each other.
 */
export class Pricing {
  private readonly controllers = new Map<Phase, PriceController>();
  private readonly denseNs: number;
  private readonly totalWeight: number;

  /** @param bundles every stored matrix of the model */
  constructor(
    private readonly price: PriceSettings,
    private readonly calibration: CalibratedWeights,
    bundles: readonly BundleInfo[],
    table: LatencyTable,
  ) {
    this.denseNs = bundles.reduce(
      (sum, { rows, rowBytes }) => sum + table.rowLatencyNs(rowBytes, rows)[rows],
      0,
    );
    this.totalWeight = bundles.reduce(
      (sum, { name }) => sum + (calibration.weights.get(name) ?? 0),
      0,
    );
  }

  /** What the next pass of a phase may spend. */
  terms(phase: Phase): PassTerms {
    const { kind, value } = this.price;
    if (kind === "fixed") return { kind: "price", errorPerNs: value };
    const controller = this.controllers.get(phase);
    if (controller !== undefined) return { kind: "price", errorPerNs: controller.price };
    // More than 1 where all of it fits, so that rounding leaves no row out.
    if (kind === "latency") return { kind: "latencyShare", share: value / this.denseNs };
    const lost = (value * this.calibration.layers) / this.totalWeight;
    return { kind: "lostShare", share: Math.min(1, lost) };
  }

  /** Learns from a finished pass that ran under `terms`. */
  observe(step: StepTrace): void {
    const { kind, value } = this.price;
    if (kind === "fixed") return;
    const controller = this.controllers.get(step.phase);
    const limit = limitOf(step);
    if (controller !== undefined) {
      const reading = kind === "latency" ? latencyNs(step) : (step.estimatedError ?? NaN);
      controller.observe(reading, limit);
      return;
    }
    // Everything fits so far: there is no price yet, and none is needed.
    if (limit === "all") return;
    this.controllers.set(
      step.phase,
      new PriceController({
        target: value,
        response: kind === "latency" ? "falling" : "rising",
        initialPrice: this.firstPrice(step),
      }),
    );
  }

  /** Mean, by logarithm, of the prices that the matrices came to; else the worth of everything over its cost. */
  private firstPrice({ projections }: StepTrace): number {
    let logs = 0;
    let count = 0;
    for (const { errorPerNs = 0 } of projections) {
      if (!(errorPerNs > 0 && Number.isFinite(errorPerNs))) continue;
      logs += Math.log(errorPerNs);
      count += 1;
    }
    return count > 0 ? Math.exp(logs / count) : this.totalWeight / this.denseNs;
  }
}

function latencyNs(step: StepTrace): number {
  return step.projections.reduce((sum, projection) => sum + projection.estimatedReadNs, 0);
}

function limitOf({ projections }: StepTrace): SelectionLimit | undefined {
  if (projections.every(({ rows, totalRows }) => rows === totalRows)) return "all";
  return projections.every(({ rows, residentRows }) => rows === residentRows) ? "none" : undefined;
}
