import { importanceKept } from "@neuron-chunking/chunk-selector";
import { estimatePlanNs, selectedRows } from "@neuron-chunking/latency-model";
import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import type {
  ComputeBackend,
  Permutation,
  RowFormat,
  StreamedOutcome,
  Tensor,
} from "./backend/compute-backend.js";
import { abortedError, throwIfAborted, VlmExecutorError } from "./errors.js";
import type { ResidentPrefix } from "./resident-prefix.js";
import type { RowSupply, SupplyTotals } from "./row-supply.js";
import type { PassTerms, RowChoice, RowChooser } from "./selection/row-chooser.js";
import { nowNs } from "./trace.js";
import type { Phase, ProjectionTrace } from "./trace.js";
import { rowFormat } from "./weight-dtype.js";

/** What the stored matrices of one model share: made once, used by one pass at a time. */
export interface Streaming {
  readonly backend: ComputeBackend;
  /** Chooses rows where a pass brings no chooser of its own. */
  readonly rows: RowChooser;
  /** Estimates read times. */
  readonly table: LatencyTable;
  /** Brings the rows of a plan in. */
  readonly reads: RowSupply;
  /** Rows in memory, by name of the stored matrix. */
  readonly prefixes: ReadonlyMap<string, ResidentPrefix>;
}

/** One pass as its projections see it. */
export interface Pass {
  readonly signal: AbortSignal | undefined;
  readonly projections: ProjectionTrace[];
  /** Where one pass is like the last of its phase, so that its plans can be foretold. */
  readonly phase?: Phase | undefined;
  /** Sees the importance [rows] of each matrix's input in stored order; valid during the call. */
  readonly onImportance?: ((info: BundleInfo, importance: Float32Array) => void) | undefined;
  /** What the pass may spend, where one price rules the model. */
  readonly terms?: PassTerms | undefined;
  /** Chooses rows instead of the model's policy: calibration's. */
  readonly rows?: RowChooser | undefined;
}

const NOTHING_READ: SupplyTotals = {
  bytesWanted: 0,
  bytesRead: 0,
  readNs: 0,
  bytesAhead: 0,
  bytesAheadUsed: 0,
};

/** What reading and multiplying one matrix's rows came to, for the trace. */
type Outcome = SupplyTotals & Pick<StreamedOutcome, "computeNs" | "stallNs">;

/**
 * One stored matrix: `y = x W` with the rows of `W` that matter for this `x`, read from flash. The way of
 * PAPER.md: importance of `x` -> plan -> chunks -> `y += x[:, chunk] W[chunk, :]`, each multiplied when it has
 * landed, while others are read; rows in memory while the first are on their way.
 */
export class ChunkedLinear {
  /** Output columns. */
  readonly columns: number;
  /** `x` must come in this order; `null`: the checkpoint's own. */
  readonly permutation: Permutation | null;
  private readonly format: RowFormat;
  private readonly importance: Float32Array;
  /** Whether `importance` is that of the last `x`. */
  private hasImportance = false;
  private readonly prefix: ResidentPrefix | undefined;

  constructor(
    private readonly streaming: Streaming,
    readonly info: BundleInfo,
    permutation: Permutation | null,
  ) {
    this.format = rowFormat(info);
    this.columns = this.format.columns;
    this.permutation = permutation;
    this.importance = new Float32Array(info.rows);
    this.prefix = streaming.prefixes.get(info.name);
  }

  /**
   * `y (+)= x W`, x [T, rows] in stored order, y [T, columns].
   *
   * @param sibling the matrix that has just been given the same `x` in this pass: its importance holds here too
   * @throws VlmExecutorError `READ_FAILED` or `SELECTION_FAILED` (naming the layer), `ABORTED`. Nothing is in
   *   flight any more when it throws; `y` is undefined then.
   */
  async forward(
    x: Tensor,
    y: Tensor,
    accumulate: boolean,
    pass: Pass,
    sibling?: ChunkedLinear,
  ): Promise<void> {
    throwIfAborted(pass.signal);
    const { backend, table } = this.streaming;
    const { rowBytes, rows: totalRows } = this.info;
    const chooser = pass.rows ?? this.streaming.rows;
    const selectStartNs = nowNs();
    const usesImportance = chooser.usesImportance(this.info);
    this.hasImportance = usesImportance || pass.onImportance !== undefined;
    if (this.hasImportance) {
      if (sibling?.hasImportance === true) this.importance.set(sibling.importance);
      else await backend.importance(x, this.importance);
      pass.onImportance?.(this.info, this.importance);
    }
    // A pass's own chooser decides about every row.
    const prefix = pass.rows === undefined ? this.prefix : undefined;
    const residentRows = prefix?.rows ?? 0;
    const { plan, ...prices } = this.choose(chooser, pass, residentRows);
    const selectNs = nowNs() - selectStartNs;

    const reading = this.readAndMultiply(plan, prefix, x, y, accumulate, pass);
    let outcome: Outcome;
    let rows: number;
    let estimatedReadNs: number;
    let kept: number;
    try {
      // While it is read, not after it.
      rows = selectedRows(plan) + residentRows;
      estimatedReadNs = estimatePlanNs(plan, rowBytes, table);
      kept = usesImportance ? this.importanceKept(plan, residentRows) : 1;
    } finally {
      outcome = await reading;
    }

    pass.projections.push({
      bundle: this.info.name,
      layer: this.info.layer,
      rows,
      residentRows,
      totalRows,
      chunks: plan.chunkCount,
      estimatedReadNs,
      selectNs,
      importanceKept: kept,
      ...prices,
      ...outcome,
    });
  }

  /** Share of the importance in the plan and in the resident rows. */
  private importanceKept(plan: ChunkPlan, residentRows: number): number {
    const kept = importanceKept(plan, this.importance);
    return residentRows === 0 ? kept : Math.min(1, kept + this.residentShare(residentRows));
  }

  private residentShare(residentRows: number): number {
    let resident = 0;
    let total = 0;
    this.importance.forEach((value, row) => {
      total += value;
      if (row < residentRows) resident += value;
    });
    return total > 0 ? resident / total : 0;
  }

  private choose(chooser: RowChooser, pass: Pass, residentRows: number): RowChoice {
    try {
      return chooser.choose(this.info, this.importance, pass.terms, residentRows);
    } catch (cause) {
      throw this.failure("SELECTION_FAILED", "Choosing rows failed", cause);
    }
  }

  private async readAndMultiply(
    plan: ChunkPlan,
    prefix: ResidentPrefix | undefined,
    x: Tensor,
    y: Tensor,
    accumulate: boolean,
    pass: Pass,
  ): Promise<Outcome> {
    const { backend, reads } = this.streaming;
    if (plan.chunkCount === 0) return this.multiplyResident(prefix, x, y, accumulate);
    const { signal } = pass;
    const phase = pass.rows === undefined ? pass.phase : undefined;
    let outcome: StreamedOutcome;
    try {
      const beginning = reads.begin(this.info, plan, { tokens: x.rows, phase, signal });
      if (beginning !== undefined) await beginning;
      const resident = prefix ?? null;
      outcome = await backend.streamedMatmul(x, this.format, resident, reads, y, accumulate);
      const ending = reads.end();
      if (ending !== undefined) await ending;
      if (!outcome.complete) throw new Error("reading ended before all rows had landed");
    } catch (cause) {
      await reads.abandon();
      if (signal?.aborted) throw abortedError(signal);
      throw this.readFailure(cause);
    }
    const { computeNs, stallNs } = outcome;
    return { ...reads.totals, computeNs, stallNs };
  }

  private async multiplyResident(
    prefix: ResidentPrefix | undefined,
    x: Tensor,
    y: Tensor,
    accumulate: boolean,
  ): Promise<Outcome> {
    const { backend } = this.streaming;
    const startNs = nowNs();
    if (prefix !== undefined) await prefix.multiply(backend, x, y, accumulate);
    else if (!accumulate) backend.zero(y);
    return { ...NOTHING_READ, computeNs: nowNs() - startNs, stallNs: 0 };
  }

  private readFailure(cause: unknown): VlmExecutorError {
    if ((cause as { code?: unknown } | null)?.code === "CLOSED") {
      return new VlmExecutorError("CLOSED", "The executor is closed; open the model again.", {
        cause,
      });
    }
    return this.failure("READ_FAILED", "Reading weights failed", cause);
  }

  private failure(
    code: "READ_FAILED" | "SELECTION_FAILED",
    what: string,
    cause: unknown,
  ): VlmExecutorError {
    const { name, layer } = this.info;
    const fields: Record<string, unknown> = {};
    for (const field of ["path", "offsetBytes", "lengthBytes", "errno"] as const) {
      const value = (cause as Record<string, unknown> | null)?.[field];
      if (value !== undefined) fields[field] = value;
    }
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new VlmExecutorError(code, `${what} in layer ${layer} (${name}): ${reason}`, {
      ...fields,
      layer,
      bundle: name,
      cause,
    });
  }
}
