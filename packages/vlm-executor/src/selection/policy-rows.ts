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
import { selectedRows } from "@neuron-chunking/latency-model";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { RestPlan } from "./rest-plan.js";
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
  /**
   * The price its last selection came to, over the importance of all its rows: near it the next one's is looked for first. A
   * share, because inputs differ in scale from token to token. Phases differ too, but a phase lasts for many passes, and a
   * price of another only makes the first search longer.
   */
  lastPriceShare: number | undefined;
}

/** Rows by the policy a model was opened with. */
export class PolicyRows implements RowChooser {
  private readonly selector: Selector;
  /** The same object where the policy is `lagrange`. */
  private readonly lagrange: LagrangeSelector | undefined;
  /** The same object where the policy is `topk`; else asked only beside resident rows. */
  private readonly topk: Selector;
  private readonly rest: RestPlan;
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
    const isTopk = settings.policy === "topk";
    this.topk = isTopk ? this.selector : createSelector("topk", { maxRows });
    this.rest = new RestPlan(maxRows);
  }

  usesImportance(): boolean {
    return this.settings.policy !== "dense";
  }

  /**
   * With resident rows, the quality asked for stays what it is, and only the rest of the matrix is read for it: the
   * rows of top-k that are not resident, or what importance the resident rows do not hold already.
   */
  choose(
    info: BundleInfo,
    importance: Float32Array,
    terms: PassTerms | undefined,
    residentRows = 0,
  ): RowChoice {
    if (residentRows >= info.rows) return { plan: this.rest.none() };
    const matrix = this.matrix(info);
    const { budgetRows } = matrix;
    if (this.settings.policy === "topk") {
      const plan = this.topkPlan(info, importance, budgetRows);
      return { plan: residentRows === 0 ? plan : this.rest.from(plan, residentRows) };
    }
    if (this.lagrange === undefined) {
      const asked = { budgetRows: this.rowsBeyond(info, importance, budgetRows, residentRows) };
      return { plan: this.selectRest(info, importance, residentRows, asked) };
    }
    const total = sum(importance, 0, info.rows);
    const asked =
      terms === undefined
        ? this.matchingTopk(info, importance, budgetRows, residentRows)
        : beyondPrefix(termsFor(terms, matrix, total), importance, info.rows, residentRows);
    // The resident rows hold enough.
    if (residentRows > 0 && asked.importanceTarget === 0) return { plan: this.rest.none() };
    const plan = this.selectRest(info, importance, residentRows, asked, total);
    const { pricePerNs } = this.lagrange.solution;
    const priceShare = pricePerNs / total;
    if (priceShare > 0 && Number.isFinite(priceShare)) matrix.lastPriceShare = priceShare;
    return {
      plan,
      pricePerNs,
      ...(this.settings.calibration !== undefined && total > 0
        ? { errorPerNs: (pricePerNs * matrix.weight) / total }
        : {}),
    };
  }

  private matchingTopk(
    info: BundleInfo,
    importance: Float32Array,
    budgetRows: number,
    residentRows: number,
  ): Partial<SelectionRequest> {
    if (residentRows === 0) return { matchTopkRows: budgetRows };
    const kept = planImportance(this.topkPlan(info, importance, budgetRows), importance);
    return beyondPrefix({ importanceTarget: kept }, importance, info.rows, residentRows);
  }

  /** How many of the `budgetRows` most important rows are not resident. */
  private rowsBeyond(
    info: BundleInfo,
    importance: Float32Array,
    budgetRows: number,
    residentRows: number,
  ): number {
    if (residentRows === 0 || this.settings.policy !== "chunk") return budgetRows;
    const topk = this.topkPlan(info, importance, budgetRows);
    return selectedRows(this.rest.from(topk, residentRows));
  }

  private topkPlan(info: BundleInfo, importance: Float32Array, budgetRows: number): ChunkPlan {
    const { rows, rowBytes } = info;
    return this.topk.select({ importance, rows, rowBytes, budgetRows });
  }

  private selectRest(
    info: BundleInfo,
    importance: Float32Array,
    residentRows: number,
    asked: Partial<SelectionRequest>,
    total = 0,
  ): ChunkPlan {
    const { threshold, table } = this.settings;
    const { hyperparameters, lastPriceShare = 0 } = this.matrix(info);
    const nearPricePerNs = lastPriceShare * total;
    const plan = this.selector.select({
      importance: residentRows === 0 ? importance : importance.subarray(residentRows, info.rows),
      rows: info.rows - residentRows,
      rowBytes: info.rowBytes,
      table,
      ...asked,
      ...(threshold === undefined ? {} : { threshold }),
      ...(nearPricePerNs > 0 ? { nearPricePerNs } : {}),
      // Reading waits for it.
      effort: "quick",
      hyperparameters,
    });
    return residentRows === 0 ? plan : this.rest.moved(plan, residentRows);
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
      lastPriceShare: undefined,
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

/** What must be selected of the rest for an importance that the resident rows hold in part; other questions as they are. */
function beyondPrefix(
  asked: Partial<SelectionRequest>,
  importance: Float32Array,
  rows: number,
  residentRows: number,
): Partial<SelectionRequest> {
  const { importanceTarget } = asked;
  if (importanceTarget === undefined || residentRows === 0) return asked;
  const missing = importanceTarget - sum(importance, 0, residentRows);
  // Rounding must not ask for more than there is.
  const most = sum(importance, residentRows, rows);
  return { importanceTarget: Math.min(most, Math.max(0, missing)) };
}

function planImportance(plan: ChunkPlan, importance: Float32Array): number {
  let total = 0;
  for (let c = 0; c < plan.chunkCount; c++) {
    const end = plan.starts[c] + plan.lengths[c];
    for (let i = plan.starts[c]; i < end; i++) total += importance[i];
  }
  return total;
}

function sum(values: Float32Array, from: number, to: number): number {
  let total = 0;
  for (let i = from; i < to; i++) total += values[i];
  return total;
}
