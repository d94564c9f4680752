import type { BundleInfo } from "../../src/flash-image.js";
import type { RawTensor, RawTensors } from "./checkpoint.js";

/** Source module of each projection. */
const MODULE: Record<string, string> = {
  q_proj: "self_attn",
  k_proj: "self_attn",
  v_proj: "self_attn",
  o_proj: "self_attn",
  gate_proj: "mlp",
  up_proj: "mlp",
  down_proj: "mlp",
};

/**
 * The bytes of a bundle, element by element, straight from the definition: row i of a part holds W[:, i], rows in stored
 * order, and the columns of gate and up in the stored order of the down projection.
 * @param inner storedOrder of the layer's down projection.
 */
export function expectedBundle(
  bundle: BundleInfo,
  tensors: RawTensors,
  prefix: string,
  inner: Uint32Array | undefined,
): Buffer {
  const { rows, rowBytes, storedOrder, layer } = bundle;
  const expected = Buffer.alloc(rows * rowBytes);
  for (const { name, columnOffset, columns } of bundle.parts) {
    const source: RawTensor = tensors[`${prefix}layers.${layer}.${MODULE[name]}.${name}.weight`];
    const elementBytes = source.bytes.length / (rows * columns);
    for (let row = 0; row < rows; row++) {
      const input = storedOrder?.[row] ?? row;
      for (let column = 0; column < columns; column++) {
        const reorders = name === "gate_proj" || name === "up_proj";
        const output = reorders ? (inner?.[column] ?? column) : column;
        const from = (output * rows + input) * elementBytes;
        const to = row * rowBytes + (columnOffset + column) * elementBytes;
        expected.set(source.bytes.subarray(from, from + elementBytes), to);
      }
    }
  }
  return expected;
}

/** A permutation of 0..size-1 that is nothing special, the same for each seed. */
export function shuffled(size: number, seed = 1): Uint32Array {
  const order = Uint32Array.from({ length: size }, (_, index) => index);
  let state = seed;
  for (let index = size - 1; index > 0; index--) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    const other = state % (index + 1);
    [order[index], order[other]] = [order[other], order[index]];
  }
  return order;
}
