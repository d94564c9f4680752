import { PriceController } from "@neuron-chunking/chunk-selector";
import type { SelectionLimit } from "@neuron-chunking/chunk-selector";
import type { LatencyTable } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { typicalImportance } from "../calibration/typical-inputs.js";
import type { InputKind, TypicalInput } from "../calibration/typical-inputs.js";
import { VlmExecutorError } from "../errors.js";
import type { Phase, StepTrace } from "../trace.js";
import type { PassTerms } from "./row-chooser.js";
import type { CalibratedWeights, PriceSettings } from "./settings.js";
import { priceOfSparsity } from "./sparsity-price.js";
import type { TriedMatrix } from "./sparsity-price.js";

const INPUT_KINDS: Readonly<Record<Phase, InputKind>> = {
  prefill: "block",
  frames: "block",
  decode: "token",
};

/**
 * Finds the model's one price. Given as a sparsity, by what the calibration has kept of real inputs, once and for all; as a
 * target, pass by pass: the first pass of a phase gives every matrix the same share of what the
 * target allows, the prices that this comes to (their mean) are the first guess, and a controller takes over from
 * there. Phases (prefill, frames, decode) differ in their inputs, so each has a controller of its own.
 * The state belongs to the model: sessions that take turns profit from each other.
 */
export class Pricing {
  private readonly controllers = new Map<Phase, PriceController>();
  private readonly denseNs: number;
  private readonly totalWeight: number;
  /** Where a sparsity decides. */
  private readonly sparsityPrices: Readonly<Record<InputKind, number>> | undefined;

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
    if (price.kind === "sparsity") {
      const find = (kind: InputKind) =>
        priceOfSparsity(this.triedMatrices(bundles, price.inputs, kind), price.value, table);
      this.sparsityPrices = { block: find("block"), token: find("token") };
    }
  }

  /** What the next pass of a phase may spend. */
  terms(phase: Phase): PassTerms {
    const { kind, value } = this.price;
    if (this.sparsityPrices !== undefined) {
      return { kind: "price", errorPerNs: this.sparsityPrices[INPUT_KINDS[phase]] };
    }
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
    if (kind === "fixed" || kind === "sparsity") return;
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

  private triedMatrices(
    bundles: readonly BundleInfo[],
    inputs: readonly TypicalInput[],
    kind: InputKind,
  ): TriedMatrix[] {
    const byName = new Map(inputs.map((input) => [input.name, input]));
    return bundles.map((info) => {
      const input = byName.get(info.name);
      const importance = input && typicalImportance(info, input, kind);
      const weight = this.calibration.weights.get(info.name);
      if (importance !== undefined && weight !== undefined) return { info, weight, importance };
      throw new VlmExecutorError(
        "CALIBRATION_MISMATCH",
        `The calibration has no input of ${info.name} with ${info.rows} rows. Make one for this image with \`nchunk calibrate\`, or use balance equal-importance.`,
        { bundle: info.name, expected: info.rows },
      );
    });
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
