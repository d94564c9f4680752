/**
 * TypeScript types of the native addon, exactly; nothing else touches the raw binding.
 *
 * All activations are f32, row-major. Weights are bytes of any alignment. Sizes are whole numbers below 2^31.
 * The binding checks only what prevents memory errors: a length that does not fit its shape, an index out
 * of range, an unknown dtype. It then throws a `RangeError` (or a `TypeError` for a wrong kind of value) with
 * `code` "KERNELS_INVALID_ARGUMENT" before anything is written.
 *
 * Functions that return {@link MaybeAsync} run at once on the caller and return `undefined` when the work is
 * estimated below about 150 microseconds; larger work goes to native threads and the returned promise settles on
 * the calling thread. Until then the arrays that were passed are in use: not to be read, written or transferred.
 */
import addon from "@neuron-chunking/kernels-addon";

/** `undefined`: done already. A promise: done when it settles. `await` serves both. */
export type MaybeAsync = Promise<void> | undefined;

/** Element type of a weight array or of chunked rows, by the number the addon knows it by. */
export const DTYPE = { f32: 0, bf16: 1, f16: 2, int8: 3, int4: 4 } as const;
/** Of rows in chunks, which may be quantised. */
export type RowDtypeCode = (typeof DTYPE)[keyof typeof DTYPE];
/** Of every other weight. */
export type DtypeCode = Exclude<RowDtypeCode, typeof DTYPE.int8 | typeof DTYPE.int4>;

/** Activation that `linear` applies to its output, by the number the addon knows it by. */
export const ACTIVATION = { none: 0, gelu: 1, geluTanh: 2 } as const;
export type ActivationCode = (typeof ACTIVATION)[keyof typeof ACTIVATION];

export interface KernelFeatures {
  /** Instruction set in use: "avx512-bf16", "avx512", "avx2", "neon-bf16", "neon-dot", "neon" or "portable". */
  readonly target: string;
  /** Threads that one kernel may use, the caller included. */
  readonly threads: number;
  /**
   * What this target rounds where a product is given `reduced`: "bf16-dot" (many tokens: both operands to bf16, sums in f32),
   * "int8-dot" (few tokens and int4 rows: activations to int8 in small groups). Empty: such a product is computed like any other.
   */
  readonly reduced: string[];
}

/** Which slices of a stream have landed: an External, and a sink that flash-reader's streams can go to. One stream at a time. */
export type NativeArrivals = object & { readonly __arrivals: never };

/** One kernel on one shape, as {@link KernelBench.prepare} takes it. */
export interface KernelCaseSpec {
  readonly op: "chunked" | "linear" | "attention" | "rmsNorm" | "layerNorm";
  /** Of the weights; int8 and int4 of `chunked` only, with `groupSize`. */
  readonly dtype: RowDtypeCode;
  readonly t: number;
  /** Rows that are multiplied, inputs, or keys of attention, the last `t` of which are new. */
  readonly k: number;
  /** Outputs; of attention `heads` times the head's width. */
  readonly n: number;
  readonly groupSize?: number;
  /** Of `chunked`: half of twice as many channels, in chunks of 1 to 32 rows; else one chunk of all rows. */
  readonly randomChunks?: boolean;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly causal?: boolean;
  /** Of `chunked` and `linear`: operands may be rounded. */
  readonly reduced?: boolean;
}

/** A prepared case. Each call runs on the caller and returns the ns it took; `round` chooses the copy of the weights. */
export interface KernelCase {
  /** What is read at least: weights, keys and values, activations. */
  readonly bytes: number;
  readonly flops: number;
  run(round: number): number;
  /** The same product by the peer, weights as f32; null where there is none. */
  readonly peer: ((round: number) => number) | null;
}

/** Timed runs on weights that no cache holds, and this machine's limits. For benchmarks. */
export interface KernelBench {
  /** A BLAS of the system that was found at run time, or null and why. */
  readonly peerName: string | null;
  readonly peerReason: string | null;
  /** @throws RangeError when sizes do not fit each other or the arena is too small for the weights. */
  prepare(spec: KernelCaseSpec): KernelCase;
  /** ns that reading `bytes` takes with the kernels' threads. */
  stream(round: number, bytes: number): number;
  /** Floating point operations per ns of multiply-adds in registers with the kernels' threads. */
  multiplyAdd(iterations: number): number;
}

export interface KernelsBinding {
  features(): KernelFeatures;
  /** Threads that one kernel may use, the caller included; shared by the whole process. 1 to 256. */
  setThreads(threads: number): void;
  /** Targets this CPU can run, best first. */
  availableTargets(): string[];
  /** For tests: uses `target` from now on, in the whole process. Throws when this CPU cannot run it. */
  forceTarget(target: string): void;

  /**
   * `y [T, N] (+)= sum over chunks of x[:, rows] W[rows, :]`, x `[T, K]`. Chunk `c` holds rows `starts[c]` to
   * `starts[c] + lengths[c]`; its row `r` lies at `landing[chunkOffsetsBytes[c] + r * rowBytes]`, N elements of
   * `dtype`. `accumulate` adds to `y`, else `y` is overwritten. The result does not depend on the number of threads.
   *
   * Rows of int8 and int4 are N quants (int4: column `2i` in the low half of byte `i`, two's complement), then from the next
   * even byte one little-endian binary16 scale for each `groupSize` (32 or 64) columns; weight = quant * scale.
   *
   * `reduced` permits rounding the operands where that is faster (see {@link KernelFeatures.reduced}); false where it is left out.
   */
  chunkedMatmul(
    x: Float32Array,
    t: number,
    k: number,
    starts: Uint32Array,
    lengths: Uint32Array,
    chunkCount: number,
    landing: Uint8Array,
    chunkOffsetsBytes: Float64Array,
    rowBytes: number,
    dtype: RowDtypeCode,
    n: number,
    y: Float32Array,
    accumulate: boolean,
    groupSize?: number | null,
    reduced?: boolean,
  ): MaybeAsync;

  createArrivals(): NativeArrivals;
  /** Done with its stream, if there is one: what would have to wait for a release is not read. */
  finishArrivals(arrivals: NativeArrivals): void;
  /**
   * `chunkedMatmul` of rows that are still landing, each multiplied when it is there: first the rows in memory, input channels
   * 0 to `residentRows` at `resident[r * rowBytes]`, then the pieces, as chunks are there, each valid once slice
   * `slices[p]` of `arrivals`' stream has landed (with 2^31 added: of `ahead`'s, then in `aheadLanding`). Slices of a stream ascend with the pieces,
   * every slice has a piece, and `window` of them have memory at the same time; a slice is released when it is multiplied.
   * The streams must have begun. Always a promise. `reduced` as for `chunkedMatmul`.
   *
   * @param outcome [3] then holds 1, or 0 where a stream ended without its rows (`y` is undefined then); the time in ns in
   *   which threads multiplied; the time in which all of them waited for rows
   */
  streamedMatmul(
    x: Float32Array,
    t: number,
    k: number,
    resident: Uint8Array | null,
    residentRows: number,
    starts: Uint32Array,
    lengths: Uint32Array,
    slices: Uint32Array,
    pieceCount: number,
    landing: Uint8Array,
    offsetsBytes: Float64Array,
    arrivals: NativeArrivals,
    ahead: NativeArrivals | null,
    aheadLanding: Uint8Array | null,
    window: number,
    rowBytes: number,
    dtype: RowDtypeCode,
    n: number,
    y: Float32Array,
    accumulate: boolean,
    groupSize: number | null,
    outcome: Float64Array,
    reduced?: boolean,
  ): Promise<void>;

  /** `y [T, N] = activation(x [T, K] W^T + bias)`, W `[N, K]` as Hugging Face stores it; `reduced` as for `chunkedMatmul`. */
  linear(
    x: Float32Array,
    t: number,
    k: number,
    weight: Uint8Array,
    dtype: DtypeCode,
    n: number,
    bias: Float32Array | null,
    y: Float32Array,
    activation?: ActivationCode,
    reduced?: boolean,
  ): MaybeAsync;

  /** `v[i] = mean over tokens of |x[t, i]|` (paper, App. B.2); x `[T, K]`, v `[K]`. */
  importance(x: Float32Array, t: number, k: number, v: Float32Array): void;

  /**
   * `y[t, i] = x[t, p] * rsqrt(mean(x[t, :]^2) + eps) * weight[p]` with `p = permutation[i]`, or `i` without one.
   * `y` may be `x` only without a permutation.
   */
  rmsNorm(
    x: Float32Array,
    t: number,
    k: number,
    weight: Float32Array,
    eps: number,
    permutation: Uint32Array | null,
    y: Float32Array,
  ): void;

  /** `y[t, i] = x[t, permutation[i]]`; `y` must not be `x`. */
  gather(x: Float32Array, t: number, k: number, permutation: Uint32Array, y: Float32Array): void;

  /** `y = (x - mean) * rsqrt(variance + eps) * weight + bias` per row of x `[T, K]`; `y` may be `x`. */
  layerNorm(
    x: Float32Array,
    t: number,
    k: number,
    weight: Float32Array,
    bias: Float32Array,
    eps: number,
    y: Float32Array,
  ): void;

  /** `y[t, :] += bias [N]`. */
  addBias(y: Float32Array, t: number, n: number, bias: Float32Array): void;

  /** `y[i] += x[i]` for the first `count` elements. */
  add(y: Float32Array, x: Float32Array, count: number): void;

  /** SwiGLU: `y[t, i] = silu(gate[t, i]) * up[t, i]`; gateUp `[T, 2n]` with rows `gate | up`, y `[T, n]`. */
  siluMul(gateUp: Float32Array, t: number, n: number, y: Float32Array): void;

  /** `x = x / 2 * (1 + erf(x / sqrt 2))` in place, the first `count` elements. */
  gelu(x: Float32Array, count: number): void;

  /** `x = x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` in place, the first `count` elements. */
  geluTanh(x: Float32Array, count: number): void;

  /**
   * Rotary embedding in place, Hugging Face `rotate_half` convention. Head `h` of row `t` is
   * `x[t * rowStride + columnOffset + h * headDim]`, `headDim` long and even; element `i < headDim / 2` is rotated with
   * `i + headDim / 2` by `positions[t] * invFreq[i]`. Heads that follow one another with the same frequencies (q, then k)
   * can be done in one call.
   */
  rope(
    x: Float32Array,
    t: number,
    rowStride: number,
    columnOffset: number,
    heads: number,
    headDim: number,
    positions: Float64Array | Int32Array,
    invFreq: Float32Array,
  ): void;

  /**
   * Grouped-query attention without O(T^2) memory. Query head `h` of row `t` is
   * `q[t * qRowStride + qColumnOffset + h * headDim]`; it attends with key/value head `floor(h / (qHeads / kvHeads))`.
   * keys and values `[capacity, kvHeads * headDim]`, of which the first `kvLength` rows are filled. With `causal`, row `t` sees
   * keys `0 .. pastLength + t`. `out [T, qHeads * headDim] = softmax(scale q k^T) v`.
   */
  attention(
    q: Float32Array,
    t: number,
    qRowStride: number,
    qColumnOffset: number,
    qHeads: number,
    kvHeads: number,
    headDim: number,
    keys: Float32Array,
    values: Float32Array,
    kvLength: number,
    pastLength: number,
    causal: boolean,
    scale: number,
    out: Float32Array,
  ): MaybeAsync;

  /** Row `ids[j]` of `table [V, K]` widened to f32 into row `j` of `y [ids.length, K]`. */
  embed(table: Uint8Array, dtype: DtypeCode, k: number, ids: Int32Array, y: Float32Array): void;

  /** For benchmarks: takes `arenaBytes` of memory for weights until the result is collected. */
  openBench(arenaBytes: number): KernelBench;

  /** The first `count` elements of `weight` widened to f32. */
  toF32(weight: Uint8Array, dtype: DtypeCode, count: number, y: Float32Array): void;
}

/** The addon. Loading it fails with a message that says how to build it when its binary is missing. */
export const kernels = addon as KernelsBinding;
