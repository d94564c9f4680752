/**
 * The one boundary between the model code (families, decoder, vision) and the arithmetic. Activations
 * are opaque handles into the backend's memory; only `read`, `write` and `importance` move numbers to
 * and from the host. A backend for a device with unified memory implements this file and nothing else.
 */

import type { LandingSink } from "@neuron-chunking/flash-reader";

/** Storage types of weights, as the kernels number them. */
export type WeightDtype = "f32" | "bf16" | "f16";

/** Storage types of rows on flash; a quantised row is quants, then a scale for each group of columns (weight-store). */
export type RowDtype = WeightDtype | "int8" | "int4";

/**
 * How products are computed. `f32`: operands as they are, sums in f32. `reduced`: operands may be rounded where this machine has a
 * faster product for it (`ComputeBackend.rounding` says what is done); sums stay in f32.
 */
export type Arithmetic = "f32" | "reduced";

/**
 * What a backend rounds in products: both operands to bf16, with many tokens; activations to 8 bits in small groups, with
 * few tokens and int4 rows.
 */
export type Rounding = "bf16-dot" | "int8-dot";

/** How the rows of one stored matrix [inputs, columns] are written. */
export interface RowFormat {
  readonly rowBytes: number;
  readonly columns: number;
  readonly dtype: RowDtype;
  /** Of "int8" and "int4": neighbouring columns that share a scale. */
  readonly groupSize?: number | undefined;
}

/**
 * f32 activations [rows, columns], row-major. `rows` is how many of the `capacityRows` the current pass
 * uses: buffers are made once for the largest pass and set to each pass's length.
 */
export interface Tensor {
  rows: number;
  readonly columns: number;
  readonly capacityRows: number;
}

/** A resident weight matrix [outputs, inputs] in its stored type. */
export interface Weight {
  readonly outputs: number;
  readonly inputs: number;
}

/** A resident f32 vector: norm weights, biases, rotary frequencies. */
export interface Vector {
  readonly length: number;
}

/** `permutation[stored] = original` input channel. */
export interface Permutation {
  readonly length: number;
}

/** What `linear` may apply to its output: exact GELU `x Phi(x)`, or its tanh approximation. */
export type Activation = "none" | "gelu" | "geluTanh";

/** Bytes of a resident tensor in the checkpoint's own layout. */
export interface HostTensor {
  readonly dtype: WeightDtype;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/**
 * Rows of a stored matrix [inputs, columns] that have arrived from flash: row `r` of chunk `c` is input
 * channel `starts[c] + r` and lies at `bytes[offsetsBytes[c] + r * rowBytes]`. The memory belongs to the
 * reader and may be overwritten once the multiplication has settled.
 */
export interface LandedChunks extends RowFormat {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  readonly chunkCount: number;
  readonly bytes: Uint8Array;
  readonly offsetsBytes: Float64Array;
}

/** Where a reader's stream tells which of its slices have landed; for one stream at a time. */
export interface Arrivals {
  readonly sink: LandingSink;
}

/** The first rows of a stored matrix, in memory as on flash. */
export interface ResidentRows {
  readonly rows: number;
  readonly bytes: Uint8Array;
}

/** Rows that one stream brings. */
export interface StreamLanding {
  readonly arrivals: Arrivals;
  /** Memory that its slices land in, some of them at the same time. */
  readonly bytes: Uint8Array;
}

/**
 * Rows of a stored matrix that are on their way. Pieces are as the chunks of {@link LandedChunks}, each valid once its slice
 * has landed: `slices[p]` of the stream into `demand`, or, with `AHEAD` added, of that into `ahead`.
 */
export interface StreamedRows {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  readonly slices: Uint32Array;
  readonly pieceCount: number;
  /** Within the memory of the piece's stream. */
  readonly offsetsBytes: Float64Array;
  /** Of rows that were asked for when it was known which. */
  readonly demand: StreamLanding;
  /** Of rows that were asked for earlier, on suspicion. */
  readonly ahead: StreamLanding | null;
  /** Slices of a stream that have memory at the same time. */
  readonly window: number;
}

/** Marks a slice of {@link StreamedRows.ahead}. */
export const AHEAD = 2 ** 31;

/** What became of a streamed product. */
export interface StreamedOutcome {
  /** False: a stream ended without its rows, and the output is undefined. */
  readonly complete: boolean;
  /** Time in which something was multiplied. */
  readonly computeNs: number;
  /** Time in which nothing was, for want of rows. */
  readonly stallNs: number;
}

/** One call of {@link ComputeBackend.attention}; `d` is `headDim`. */
export interface AttentionArguments {
  /** Queries at columns `[queryColumn, queryColumn + headCount * d)`. */
  readonly query: Tensor;
  readonly queryColumn: number;
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
  /** [capacity, kvHeadCount * d], of which the first `pastLength + query.rows` rows are set. */
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly kvLength: number;
  /** Positions before the first query; with `causal`, query `i` sees keys `0..pastLength + i`. */
  readonly pastLength: number;
  readonly causal: boolean;
  readonly scale: number;
  /** [T, headCount * d] */
  readonly out: Tensor;
}

/**
 * Settles when the operation has finished; `undefined` when it already has. Until then none of its
 * tensors may be touched. Await each before issuing the next.
 */
export type Completion = Promise<void> | undefined;

export interface ComputeBackend {
  /** What computes, for reports: `cpu (avx512, 2 threads)`. */
  readonly description: string;
  /** What rows on flash may be stored as. */
  readonly rowDtypes: readonly RowDtype[];
  /** What products round on the way; empty: nothing, they are computed in f32. */
  readonly rounding: readonly Rounding[];

  createTensor(capacityRows: number, columns: number): Tensor;
  createWeight(source: HostTensor, outputs: number, inputs: number): Weight;
  /** The sources one after the other, widened to f32. */
  createVector(sources: readonly HostTensor[]): Vector;
  vectorFrom(values: Float32Array): Vector;
  createPermutation(storedToOriginal: Uint32Array): Permutation;

  /** Host values [n, columns] into rows `firstRow...` of `to`. */
  write(values: Float32Array, to: Tensor, firstRow: number): void;
  /** Rows `firstRow...` of `from` into `into` [n, columns]. */
  read(from: Tensor, firstRow: number, into: Float32Array): Completion;
  /** Columns `[fromColumn, fromColumn + columns)` of every row, to `to` from (`toRow`, `toColumn`) on. */
  copyColumns(
    from: Tensor,
    fromColumn: number,
    columns: number,
    to: Tensor,
    toRow: number,
    toColumn: number,
  ): void;
  zero(y: Tensor): void;

  /** `y[t] = table[ids[t]]` for `y.rows` ids. */
  embed(table: Weight, ids: Int32Array, y: Tensor): void;
  /** `y = x / sqrt(mean(x^2) + epsilon) * weight`, columns then in stored order if `permutation`. */
  rmsNorm(
    x: Tensor,
    weight: Vector,
    epsilon: number,
    permutation: Permutation | null,
    y: Tensor,
  ): void;
  layerNorm(x: Tensor, weight: Vector, bias: Vector, epsilon: number, y: Tensor): void;
  /** `y[:, stored] = x[:, permutation[stored]]` */
  gather(x: Tensor, permutation: Permutation, y: Tensor): void;
  /** `y = activation(x W^T + b)` with a resident weight. */
  linear(
    x: Tensor,
    weight: Weight,
    bias: Vector | null,
    y: Tensor,
    activation?: Activation,
  ): Completion;
  /** `v[k] = mean over rows of |x[t, k]|` (PAPER.md, importance, App. B.2), into host memory. */
  importance(x: Tensor, v: Float32Array): Completion;
  /** `y (+)= sum over chunks of x[:, rows] W[rows, :]`, the rows of one of {@link rowDtypes} */
  chunkedMatmul(x: Tensor, chunks: LandedChunks, y: Tensor, accumulate: boolean): Completion;
  createArrivals(): Arrivals;
  /** Done with the stream of `arrivals`, if it has one: what would have to wait for memory is not read. */
  finishArrivals(arrivals: Arrivals): void;
  /**
   * `y (+)= x[:, rows] W[rows, :]` of the rows in memory and those that land meanwhile, each multiplied when it is there; the
   * streams must have begun.
   */
  streamedMatmul(
    x: Tensor,
    format: RowFormat,
    resident: ResidentRows | null,
    rows: StreamedRows,
    y: Tensor,
    accumulate: boolean,
  ): Promise<StreamedOutcome>;
  addBias(y: Tensor, bias: Vector): void;
  /** `y += x` */
  add(y: Tensor, x: Tensor): void;
  /** `y = silu(gateUp[:, :n]) * gateUp[:, n:]` */
  siluMul(gateUp: Tensor, y: Tensor): void;
  /** Rotates `headCount` heads from `column` on; row `t` stands at `firstPosition + t`. In place. */
  rope(
    x: Tensor,
    column: number,
    headCount: number,
    headDim: number,
    firstPosition: number,
    inverseFrequencies: Vector,
  ): void;
  attention(call: AttentionArguments): Completion;
}
