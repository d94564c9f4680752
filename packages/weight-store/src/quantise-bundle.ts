import { binary16Value } from "./binary16.js";
import { DTYPE_BYTES, type DType } from "./dtype.js";
import { WeightStoreError } from "./errors.js";
import type { BundlePlan } from "./image-plan.js";
import { RowQuantiser, type QuantisationError, type QuantisedFormat } from "./quantised-row.js";
import type { ElementArray, Panel } from "./transpose.js";

const BINARY16_PATTERNS = 65_536;

/** Where finished rows are put together before they are written. */
interface BlockMemory {
  readonly blockBytes: number;
  blocksOf(lengthBytes: number): [Uint8Array, Uint8Array];
}

/** Quantises the rows of one bundle, in stored order, and keeps account of what that costs. */
export class BundleQuantiser {
  private readonly quantiser: RowQuantiser;
  private readonly widen: (elements: ElementArray, first: number) => void;
  /** [columns]: the row in hand. */
  private readonly weights: Float32Array;
  private rows = 0;
  private sum = 0;
  private worst = 0;

  constructor(
    private readonly bundle: BundlePlan,
    format: QuantisedFormat,
  ) {
    this.quantiser = new RowQuantiser(format, bundle.columns);
    this.weights = new Float32Array(bundle.columns);
    this.widen = widener(bundle.dtype, this.weights);
  }

  /**
   * The rows of a panel, quantised, in blocks of whole rows. A block is valid until the next is asked for.
   * @throws WeightStoreError INVALID_WEIGHT naming tensor, output and input of a weight that has no quant.
   */
  *blocks(panel: Panel, memory: BlockMemory): Generator<Uint8Array> {
    const { rowBytes } = this.quantiser.layout;
    const rowsPerBlock = Math.max(1, Math.floor(memory.blockBytes / rowBytes));
    const [block] = memory.blocksOf(Math.min(rowsPerBlock, panel.rows) * rowBytes);
    for (let first = 0; first < panel.rows; first += rowsPerBlock) {
      const rows = Math.min(rowsPerBlock, panel.rows - first);
      for (let index = 0; index < rows; index++) {
        const row = first + index;
        this.widen(panel.elements, row * panel.stride);
        const into = block.subarray(index * rowBytes, (index + 1) * rowBytes);
        const refuse = (column: number) => this.refuse(panel.firstRow + row, column);
        this.note(this.quantiser.quantise(this.weights, into, refuse));
      }
      yield block.subarray(0, rows * rowBytes);
    }
  }

  /** Of all rows so far. */
  error(): QuantisationError {
    return { mean: this.rows === 0 ? 0 : this.sum / this.rows, worst: this.worst };
  }

  private note(error: number): void {
    this.rows++;
    this.sum += error;
    this.worst = Math.max(this.worst, error);
  }

  private refuse(row: number, column: number): never {
    const { bundle } = this;
    const part = bundle.parts.findLast(({ columnOffset }) => columnOffset <= column);
    if (part === undefined) throw new RangeError(`${bundle.name} has no column ${column}`);
    const { path, sourceName } = part.source;
    const stored = column - part.columnOffset;
    const output = part.columnOrder?.indexOf(stored) ?? stored;
    const input = bundle.rowOrder?.[row] ?? row;
    const weight = this.weights[column];
    const remedy = Number.isFinite(weight)
      ? "too large for the scales of quantised rows. Convert without a dtype, or rescale it."
      : "no number. Export the checkpoint again.";
    throw new WeightStoreError(
      "INVALID_WEIGHT",
      `${path}: ${sourceName}[${output}, ${input}] (row ${row} of ${bundle.name}) is ${weight}: ${remedy}`,
      { path, name: sourceName, got: { output, input, row, weight } },
    );
  }
}

/** Fills `weights` with consecutive elements from `first` on, widened to f32 without rounding. */
function widener(
  dtype: Exclude<DType, "u32">,
  weights: Float32Array,
): (elements: ElementArray, first: number) => void {
  const bits = new Uint32Array(weights.buffer);
  const count = weights.length;
  if (DTYPE_BYTES[dtype] === 4) {
    return (elements, first) => bits.set(elements.subarray(first, first + count));
  }
  if (dtype === "bf16") {
    return (elements, first) => {
      for (let column = 0; column < count; column++) bits[column] = elements[first + column] << 16;
    };
  }
  const table = Float32Array.from({ length: BINARY16_PATTERNS }, (_, pattern) =>
    binary16Value(pattern),
  );
  return (elements, first) => {
    for (let column = 0; column < count; column++)
      weights[column] = table[elements[first + column]];
  };
}
