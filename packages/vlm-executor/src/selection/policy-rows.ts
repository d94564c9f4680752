import {
  budgetRows,
  createSelector,
  defaultHyperparameters,
} from "@neuron-chunking/chunk-selector";
import type {
  ChunkHyperparameters,
  LagrangeSelector,
  SelectionRequest,
  Selector,
} from "@neuron-chunking/chunk-selector";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import type { PassTerms, RowChoice, RowChooser } from "./row-chooser.js";
import type { SelectionSettings } from "./settings.js";

/** What is asked of the selector for one matrix in every pass. */
interface MatrixRequest {
  readonly budgetRows: number;
  readonly hyperparameters: ChunkHyperparameters;
  /** Modelled latency of all rows, ns. */
  readonly denseNs: number;
  /** Calibrated error per share of importance lost; 1 without a calibration. */
  readonly weight: number;
}

/** Rows by the policy a model was opened with. */
export class PolicyRows implements RowChooser {
  private readonly selector: Selector;
  /** The same object where the policy is `lagrange`. */
  private readonly lagrange: LagrangeSelector | undefined;
  private readonly matrices = new Map<string, MatrixRequest>();

  /** @param maxRows rows of the largest matrix */
  constructor(
    private readonly settings: SelectionSettings,
    maxRows: number,
  ) {
    if (settings.policy === "lagrange") {
      this.selector = this.lagrange = createSelector("lagrange", { maxRows });
    } else {
      this.selector = createSelector(settings.policy, { maxRows });
    }
  }

  usesImportance(): boolean {
    return this.settings.policy !== "dense";
  }

  choose(info: BundleInfo, importance: Float32Array, terms: PassTerms | undefined): RowChoice {
    const matrix = this.matrix(info);
    if (this.lagrange === undefined) {
      return { plan: this.select(info, importance, { budgetRows: matrix.budgetRows }) };
    }
    const total = sum(importance);
    const asked =
      terms === undefined ? { matchTopkRows: matrix.budgetRows } : termsFor(terms, matrix, total);
    const plan = this.select(info, importance, asked);
    const { pricePerNs } = this.lagrange.solution;
    return {
      plan,
      pricePerNs,
      ...(this.settings.calibration !== undefined && total > 0
        ? { errorPerNs: (pricePerNs * matrix.weight) / total }
        : {}),
    };
  }

  private select(
    info: BundleInfo,
    importance: Float32Array,
    asked: Partial<SelectionRequest>,
  ): ChunkPlan {
    const { threshold, table } = this.settings;
    const { rows, rowBytes } = info;
    return this.selector.select({
      importance,
      rows,
      rowBytes,
      table,
      ...asked,
      ...(threshold === undefined ? {} : { threshold }),
      hyperparameters: this.matrix(info).hyperparameters,
    });
  }

  private matrix(info: BundleInfo): MatrixRequest {
    let matrix = this.matrices.get(info.name);
    if (matrix === undefined) this.matrices.set(info.name, (matrix = this.prepare(info)));
    return matrix;
  }

  private prepare({ name, rows, rowBytes }: BundleInfo): MatrixRequest {
    const { table, sparsity, sparsities, hyperparameters, calibration } = this.settings;
    return {
      budgetRows: budgetRows(rows, sparsities?.[name] ?? sparsity),
      hyperparameters: {
        ...defaultHyperparameters({ rows, rowBytes, table }),
        ...hyperparameters,
      },
      denseNs: table.rowLatencyNs(rowBytes, rows)[rows],
      weight: calibration?.weights.get(name) ?? 1,
    };
  }
}

/**
 * One price for the model: rows are worth `w * v / sum(v)` of error, so that a nanosecond, which must save
 * `errorPerNs`, costs `errorPerNs * sum(v) / w` of importance here.
 */
function termsFor(
  terms: PassTerms,
  { denseNs, weight }: MatrixRequest,
  total: number,
): Partial<SelectionRequest> {
  switch (terms.kind) {
    case "price":
      // Nothing is worth reading for an input of zeros, at any price.
      return { pricePerNs: total > 0 ? (terms.errorPerNs * total) / weight : terms.errorPerNs };
    case "latencyShare":
      return { latencyBudgetNs: terms.share * denseNs };
    case "lostShare":
      return { importanceTarget: (1 - terms.share) * total };
  }
}

function sum(values: Float32Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}
