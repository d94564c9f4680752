import { importanceKept } from "@neuron-chunking/chunk-selector";
import type { FlashReader, LandingBuffer, ReadResult } from "@neuron-chunking/flash-reader";
import { estimatePlanNs, selectedRows } from "@neuron-chunking/latency-model";
import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import type {
  ComputeBackend,
  Permutation,
  Tensor,
  WeightDtype,
} from "./backend/compute-backend.js";
import { abortedError, throwIfAborted, VlmExecutorError } from "./errors.js";
import type { PlanSlicer } from "./plan-slices.js";
import type { ResidentPrefix } from "./resident-prefix.js";
import type { PassTerms, RowChoice, RowChooser } from "./selection/row-chooser.js";
import { nowNs } from "./trace.js";
import type { ProjectionTrace } from "./trace.js";
import { requireWeightDtype } from "./weight-dtype.js";

/** What the stored matrices of one model share: made once, used by one pass at a time. */
export interface Streaming {
  readonly backend: ComputeBackend;
  readonly reader: FlashReader;
  /** Chooses rows where a pass brings no chooser of its own. */
  readonly rows: RowChooser;
  /** Estimates read times. */
  readonly table: LatencyTable;
  /** Bounded and reused: one is read into while the other is multiplied. */
  readonly landings: readonly [LandingBuffer, LandingBuffer];
  readonly slicer: PlanSlicer;
  /** Rows in memory, by name of the stored matrix. */
  readonly prefixes: ReadonlyMap<string, ResidentPrefix>;
}

/** One pass as its projections see it. */
export interface Pass {
  readonly signal: AbortSignal | undefined;
  readonly projections: ProjectionTrace[];
  /** Sees the importance [rows] of each matrix's input in stored order; valid during the call. */
  readonly onImportance?: ((info: BundleInfo, importance: Float32Array) => void) | undefined;
  /** What the pass may spend, where one price rules the model. */
  readonly terms?: PassTerms | undefined;
  /** Chooses rows instead of the model's policy: calibration's. */
  readonly rows?: RowChooser | undefined;
}

/** Read and multiplied so far, for the trace. */
interface Progress {
  bytesWanted: number;
  bytesRead: number;
  readNs: number;
  computeNs: number;
  stallNs: number;
}

/**
 * One stored matrix: `y = x W` with the rows of `W` that matter for this `x`, read from flash. The way of
 * PAPER.md: importance of `x` -> plan -> chunks -> `y += x[:, chunk] W[chunk, :]`, sliced so that a
 * slice is read while the one before it is multiplied.
 */
export class ChunkedLinear {
  /** Output columns. */
  readonly columns: number;
  /** `x` must come in this order; `null`: the checkpoint's own. */
  readonly permutation: Permutation | null;
  private readonly dtype: WeightDtype;
  private readonly importance: Float32Array;
  private readonly prefix: ResidentPrefix | undefined;

  constructor(
    private readonly streaming: Streaming,
    readonly info: BundleInfo,
    permutation: Permutation | null,
  ) {
    this.columns = info.parts.reduce((sum, part) => sum + part.columns, 0);
    this.permutation = permutation;
    this.dtype = requireWeightDtype(info.dtype, info.name);
    this.importance = new Float32Array(info.rows);
    this.prefix = streaming.prefixes.get(info.name);
  }

  /**
   * `y (+)= x W`, x [T, rows] in stored order, y [T, columns].
   *
   * @throws VlmExecutorError `READ_FAILED` or `SELECTION_FAILED` (naming the layer), `ABORTED`. Nothing is in
   *   flight any more when it throws; `y` is undefined then.
   */
  async forward(x: Tensor, y: Tensor, accumulate: boolean, pass: Pass): Promise<void> {
    throwIfAborted(pass.signal);
    const { backend, table } = this.streaming;
    const { rowBytes, rows: totalRows } = this.info;
    const chooser = pass.rows ?? this.streaming.rows;
    const selectStartNs = nowNs();
    const usesImportance = chooser.usesImportance(this.info);
    if (usesImportance || pass.onImportance !== undefined) {
      await backend.importance(x, this.importance);
      pass.onImportance?.(this.info, this.importance);
    }
    // A pass's own chooser decides about every row.
    const prefix = pass.rows === undefined ? this.prefix : undefined;
    const residentRows = prefix?.rows ?? 0;
    const { plan, ...prices } = this.choose(chooser, pass, residentRows);
    const selectNs = nowNs() - selectStartNs;

    const progress = { bytesWanted: 0, bytesRead: 0, readNs: 0, computeNs: 0, stallNs: 0 };
    if (prefix !== undefined) {
      const startNs = nowNs();
      await prefix.multiply(backend, x, y, accumulate);
      progress.computeNs += nowNs() - startNs;
    }
    await this.readAndMultiply(plan, x, y, accumulate || prefix !== undefined, pass, progress);

    pass.projections.push({
      bundle: this.info.name,
      layer: this.info.layer,
      rows: selectedRows(plan) + residentRows,
      residentRows,
      totalRows,
      chunks: plan.chunkCount,
      estimatedReadNs: estimatePlanNs(plan, rowBytes, table),
      selectNs,
      importanceKept: usesImportance ? this.importanceKept(plan, residentRows) : 1,
      ...prices,
      ...progress,
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
    x: Tensor,
    y: Tensor,
    accumulate: boolean,
    pass: Pass,
    progress: Progress,
  ): Promise<void> {
    const { backend, slicer } = this.streaming;
    slicer.begin(plan, this.info.rowBytes);
    let slice = slicer.next();
    if (slice === null && !accumulate) backend.zero(y);
    let index = 0;
    let reading = slice === null ? null : this.read(slice, index, pass);
    try {
      while (slice !== null && reading !== null) {
        const waitStartNs = nowNs();
        const landed: ReadResult = await reading;
        reading = null;
        progress.stallNs += nowNs() - waitStartNs;
        progress.bytesRead += landed.bytesRead;
        progress.bytesWanted += landed.bytesWanted;
        progress.readNs += landed.elapsedNs;

        const next = slicer.next();
        if (next !== null) reading = this.read(next, index + 1, pass);
        const computeStartNs = nowNs();
        await this.multiply(slice, landed, x, y, accumulate || index > 0);
        progress.computeNs += nowNs() - computeStartNs;
        slice = next;
        index += 1;
      }
    } finally {
      // The landing buffer is not free before its read has ended, whatever ended the pass.
      await reading?.catch(() => undefined);
    }
  }

  private read(slice: ChunkPlan, index: number, pass: Pass): Promise<ReadResult> {
    const { reader, landings } = this.streaming;
    const { offsetBytes, rowBytes } = this.info;
    const layout = { baseOffsetBytes: offsetBytes, rowBytes };
    const into = landings[index % 2];
    const options = pass.signal === undefined ? { into } : { into, signal: pass.signal };
    const reading = reader.readPlan(slice, layout, options).catch((cause: unknown) => {
      if (pass.signal?.aborted) throw abortedError(pass.signal);
      throw this.readFailure(cause);
    });
    // It may fail while the slice before it is still multiplied; it is awaited after that.
    reading.catch(() => undefined);
    return reading;
  }

  private multiply(
    slice: ChunkPlan,
    landed: ReadResult,
    x: Tensor,
    y: Tensor,
    accumulate: boolean,
  ): Promise<void> | undefined {
    const chunks = {
      starts: slice.starts,
      lengths: slice.lengths,
      chunkCount: slice.chunkCount,
      bytes: landed.bytes,
      offsetsBytes: landed.viewOffsetsBytes,
      rowBytes: this.info.rowBytes,
      columns: this.columns,
      dtype: this.dtype,
    };
    return this.streaming.backend.chunkedMatmul(x, chunks, y, accumulate);
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
