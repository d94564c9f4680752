import { ACTIVATION, DTYPE, kernels } from "../binding.js";
import type { DtypeCode, NativeArrivals } from "../binding.js";
import { VlmExecutorError } from "../errors.js";
import type {
  Activation,
  Arithmetic,
  Arrivals,
  AttentionArguments,
  Completion,
  ComputeBackend,
  HostTensor,
  LandedChunks,
  Permutation,
  ResidentRows,
  Rounding,
  RowDtype,
  RowFormat,
  StreamedOutcome,
  StreamedRows,
  Tensor,
  Vector,
  Weight,
} from "./compute-backend.js";

/** Typed arrays and native code stay below 2^31 elements per activation. */
const MAX_TENSOR_ELEMENTS = 2 ** 31 - 1;

class CpuTensor implements Tensor {
  rows: number;
  readonly data: Float32Array;

  constructor(
    readonly capacityRows: number,
    readonly columns: number,
  ) {
    this.rows = capacityRows;
    this.data = new Float32Array(capacityRows * columns);
  }
}

class CpuWeight implements Weight {
  constructor(
    readonly outputs: number,
    readonly inputs: number,
    readonly bytes: Uint8Array,
    readonly dtype: DtypeCode,
  ) {}
}

class CpuVector implements Vector {
  constructor(readonly data: Float32Array) {}
  get length(): number {
    return this.data.length;
  }
}

class CpuPermutation implements Permutation {
  constructor(readonly data: Uint32Array) {}
  get length(): number {
    return this.data.length;
  }
}

class CpuArrivals implements Arrivals {
  readonly sink: NativeArrivals = kernels.createArrivals();
}

const data = (tensor: Tensor): Float32Array => (tensor as CpuTensor).data;
const vector = (values: Vector): Float32Array => (values as CpuVector).data;
const sinkOf = (arrivals: Arrivals): NativeArrivals => (arrivals as CpuArrivals).sink;
const elements = (tensor: Tensor): number => tensor.rows * tensor.columns;

/** Whether the addon, which may be older than this package, has a kernel for such rows: a product of no rows tells. */
function multiplies(dtype: RowDtype): boolean {
  const one = new Float32Array(1);
  const none = new Uint32Array(0);
  const bytes = new Uint8Array(0);
  // Room for the longest row of one column, a quant and its scale.
  const rowBytes = 4;
  const offsets = new Float64Array(0);
  try {
    const code = DTYPE[dtype];
    void kernels.chunkedMatmul(
      ...([one, 1, 1, none, none, 0, bytes, offsets, rowBytes, code, 1, one, true, 32] as const),
    );
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === "KERNELS_INVALID_ARGUMENT") return false;
    throw error;
  }
}

/** The arithmetic in native code on this machine's cores (`native/kernels`). */
export class CpuBackend implements ComputeBackend {
  readonly description: string;
  readonly rowDtypes: readonly RowDtype[];
  readonly rounding: readonly Rounding[];
  private readonly reduced: boolean;
  private positions = new Int32Array(0);
  private readonly outcome = new Float64Array(3);

  /**
   * @param threads compute threads for the whole process, the caller's included
   * @param arithmetic of products; default "f32"
   */
  constructor(threads?: number, arithmetic: Arithmetic = "f32") {
    try {
      if (threads !== undefined) kernels.setThreads(threads);
      const features = kernels.features();
      this.description = `cpu (${features.target}, ${features.threads} threads)`;
      this.reduced = arithmetic === "reduced";
      // An addon older than this package knows of none.
      this.rounding = this.reduced ? ((features.reduced ?? []) as Rounding[]) : [];
      this.rowDtypes = (Object.keys(DTYPE) as RowDtype[]).filter(multiplies);
    } catch (cause) {
      throw new VlmExecutorError(
        "KERNELS_UNAVAILABLE",
        `The compute kernels cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause },
      );
    }
  }

  createTensor(capacityRows: number, columns: number): Tensor {
    if (capacityRows * columns > MAX_TENSOR_ELEMENTS) {
      throw new VlmExecutorError(
        "INVALID_OPTION",
        `A buffer of ${capacityRows} x ${columns} values is larger than this backend can hold; choose a smaller contextLength or blockTokens.`,
        { expected: MAX_TENSOR_ELEMENTS, got: capacityRows * columns },
      );
    }
    return new CpuTensor(capacityRows, columns);
  }

  createWeight(source: HostTensor, outputs: number, inputs: number): Weight {
    return new CpuWeight(outputs, inputs, source.bytes, DTYPE[source.dtype]);
  }

  createVector(sources: readonly HostTensor[]): Vector {
    const lengths = sources.map(({ shape }) => shape.reduce((product, size) => product * size, 1));
    const values = new Float32Array(lengths.reduce((sum, length) => sum + length, 0));
    let offset = 0;
    sources.forEach((source, i) => {
      const length = lengths[i];
      const part = values.subarray(offset, offset + length);
      kernels.toF32(source.bytes, DTYPE[source.dtype], length, part);
      offset += length;
    });
    return new CpuVector(values);
  }

  vectorFrom(values: Float32Array): Vector {
    return new CpuVector(values);
  }

  createPermutation(storedToOriginal: Uint32Array): Permutation {
    return new CpuPermutation(storedToOriginal);
  }

  write(values: Float32Array, to: Tensor, firstRow: number): void {
    data(to).set(values, firstRow * to.columns);
  }

  read(from: Tensor, firstRow: number, into: Float32Array): Completion {
    const start = firstRow * from.columns;
    into.set(data(from).subarray(start, start + into.length));
    return undefined;
  }

  copyColumns(
    from: Tensor,
    fromColumn: number,
    columns: number,
    to: Tensor,
    toRow: number,
    toColumn: number,
  ): void {
    const source = data(from);
    const target = data(to);
    for (let t = 0; t < from.rows; t++) {
      const start = t * from.columns + fromColumn;
      target.set(source.subarray(start, start + columns), (toRow + t) * to.columns + toColumn);
    }
  }

  zero(y: Tensor): void {
    data(y).fill(0, 0, elements(y));
  }

  embed(table: Weight, ids: Int32Array, y: Tensor): void {
    const { bytes, dtype, inputs } = table as CpuWeight;
    kernels.embed(bytes, dtype, inputs, ids, data(y));
  }

  rmsNorm(
    x: Tensor,
    weight: Vector,
    epsilon: number,
    permutation: Permutation | null,
    y: Tensor,
  ): void {
    const order = permutation === null ? null : (permutation as CpuPermutation).data;
    kernels.rmsNorm(data(x), x.rows, x.columns, vector(weight), epsilon, order, data(y));
  }

  layerNorm(x: Tensor, weight: Vector, bias: Vector, epsilon: number, y: Tensor): void {
    kernels.layerNorm(data(x), x.rows, x.columns, vector(weight), vector(bias), epsilon, data(y));
  }

  gather(x: Tensor, permutation: Permutation, y: Tensor): void {
    kernels.gather(data(x), x.rows, x.columns, (permutation as CpuPermutation).data, data(y));
  }

  linear(
    x: Tensor,
    weight: Weight,
    bias: Vector | null,
    y: Tensor,
    activation: Activation = "none",
  ): Completion {
    const { bytes, dtype, outputs, inputs } = weight as CpuWeight;
    const b = bias === null ? null : vector(bias);
    const code = ACTIVATION[activation];
    const { reduced } = this;
    return kernels.linear(
      data(x),
      x.rows,
      inputs,
      bytes,
      dtype,
      outputs,
      b,
      data(y),
      code,
      reduced,
    );
  }

  importance(x: Tensor, v: Float32Array): Completion {
    kernels.importance(data(x), x.rows, x.columns, v);
    return undefined;
  }

  chunkedMatmul(x: Tensor, chunks: LandedChunks, y: Tensor, accumulate: boolean): Completion {
    return kernels.chunkedMatmul(
      data(x),
      x.rows,
      x.columns,
      chunks.starts,
      chunks.lengths,
      chunks.chunkCount,
      chunks.bytes,
      chunks.offsetsBytes,
      chunks.rowBytes,
      DTYPE[chunks.dtype],
      chunks.columns,
      data(y),
      accumulate,
      chunks.groupSize,
      this.reduced,
    );
  }

  createArrivals(): Arrivals {
    return new CpuArrivals();
  }

  finishArrivals(arrivals: Arrivals): void {
    kernels.finishArrivals(sinkOf(arrivals));
  }

  async streamedMatmul(
    x: Tensor,
    format: RowFormat,
    resident: ResidentRows | null,
    rows: StreamedRows,
    y: Tensor,
    accumulate: boolean,
  ): Promise<StreamedOutcome> {
    const { outcome } = this;
    await kernels.streamedMatmul(
      data(x),
      x.rows,
      x.columns,
      resident?.bytes ?? null,
      resident?.rows ?? 0,
      rows.starts,
      rows.lengths,
      rows.slices,
      rows.pieceCount,
      rows.demand.bytes,
      rows.offsetsBytes,
      sinkOf(rows.demand.arrivals),
      rows.ahead === null ? null : sinkOf(rows.ahead.arrivals),
      rows.ahead?.bytes ?? null,
      rows.window,
      format.rowBytes,
      DTYPE[format.dtype],
      format.columns,
      data(y),
      accumulate,
      format.groupSize ?? null,
      outcome,
      this.reduced,
    );
    return { complete: outcome[0] === 1, computeNs: outcome[1], stallNs: outcome[2] };
  }

  addBias(y: Tensor, bias: Vector): void {
    kernels.addBias(data(y), y.rows, y.columns, vector(bias));
  }

  add(y: Tensor, x: Tensor): void {
    kernels.add(data(y), data(x), elements(y));
  }

  siluMul(gateUp: Tensor, y: Tensor): void {
    kernels.siluMul(data(gateUp), y.rows, y.columns, data(y));
  }

  rope(
    x: Tensor,
    column: number,
    headCount: number,
    headDim: number,
    firstPosition: number,
    inverseFrequencies: Vector,
  ): void {
    if (this.positions.length < x.rows) this.positions = new Int32Array(x.capacityRows);
    const positions = this.positions.subarray(0, x.rows);
    for (let t = 0; t < x.rows; t++) positions[t] = firstPosition + t;
    kernels.rope(
      data(x),
      x.rows,
      x.columns,
      column,
      headCount,
      headDim,
      positions,
      vector(inverseFrequencies),
    );
  }

  attention(call: AttentionArguments): Completion {
    return kernels.attention(
      data(call.query),
      call.query.rows,
      call.query.columns,
      call.queryColumn,
      call.headCount,
      call.kvHeadCount,
      call.headDim,
      data(call.keys),
      data(call.values),
      call.kvLength,
      call.pastLength,
      call.causal,
      call.scale,
      data(call.out),
    );
  }
}
