import { createHash } from "node:crypto";
import { standardNormal, uniformGenerator } from "../../random";
import { bfloat16Bits, float16Bits } from "./half-floats";
import type { WeightTensor } from "./model-shape";

export type WeightDtype = "bf16" | "f16" | "f32";

/** Standard deviation that Qwen2's matrices are initialised with (`initializer_range`). */
const MATRIX_DEVIATION = 0.02;
/** Coefficient of variation of channel sizes, within what the paper reports of activations (and as `bench io`). */
const CHANNEL_VARIATION = 1.3;
/** Uneven rows have one of so many sizes. */
const ROW_SIZES = 16;
/** Of each pool; the longest row of a real model has 18944 weights. */
const DRAWS = 2 ** 16;
const BLOCK_BYTES = 8 * 2 ** 20;

/** Log-normal with mean square 1. */
function logNormal(uniform: () => number): number {
  const variance = Math.log(1 + CHANNEL_VARIATION ** 2);
  return Math.exp(Math.sqrt(variance) * standardNormal(uniform) - variance);
}

/** Everything of a tensor follows from the seed and its name. */
function seedOf(seed: number, name: string): Buffer {
  return createHash("sha256").update(`${seed}/${name}`).digest();
}

const encoder = (dtype: "bf16" | "f16"): ((value: number) => number) =>
  dtype === "bf16" ? bfloat16Bits : float16Bits;

/**
 * Random weights of a seed, streamed: normal matrices at the scale of an initialised model, norms that weight channels
 * unevenly.
 */
export class RandomWeights {
  /** By dtype: [ROW_SIZES + 1] pools of encoded draws; the last is for rows of size 1. */
  private readonly pools = new Map<string, Uint16Array[]>();

  constructor(readonly seed: number) {}

  /**
   * The tensor's bytes, little endian, in order.
   * @param dtype Vectors may be f32 too, as GGUF files have them.
   * @returns Blocks of at most 8 MiB; each is valid until the next is asked for.
   */
  *bytes(tensor: WeightTensor, dtype: WeightDtype): Generator<Uint8Array, void, void> {
    if (tensor.values === "norm" || tensor.values === "bias") {
      yield this.vector(tensor, dtype);
      return;
    }
    if (dtype === "f32") throw new RangeError("Matrices are written in 16 bits.");
    yield* this.matrix(tensor, dtype);
  }

  private vector({ checkpointName, shape, values }: WeightTensor, dtype: WeightDtype): Uint8Array {
    const uniform = uniformGenerator(seedOf(this.seed, checkpointName).readUInt32LE(0));
    const draw =
      values === "norm" ? logNormal : (u: () => number) => MATRIX_DEVIATION * standardNormal(u);
    const drawn = Float32Array.from({ length: shape[0] }, () => draw(uniform));
    if (dtype === "f32") return new Uint8Array(drawn.buffer);
    return new Uint8Array(Uint16Array.from(drawn, encoder(dtype)).buffer);
  }

  /** Each row is a stretch of one pool of draws, from a random place on: as fast as memory can be copied. */
  private *matrix(
    { checkpointName, shape, values }: WeightTensor,
    dtype: "bf16" | "f16",
  ): Generator<Uint8Array, void, void> {
    const [rows, columns] = shape;
    const uniform = uniformGenerator(seedOf(this.seed, checkpointName).readUInt32LE(0));
    const pools = this.poolsOf(dtype);
    const rowsPerBlock = Math.max(1, Math.floor(BLOCK_BYTES / 2 / columns));
    const block = new Uint16Array(Math.min(rowsPerBlock, rows) * columns);
    for (let first = 0; first < rows; first += rowsPerBlock) {
      const count = Math.min(rowsPerBlock, rows - first);
      for (let row = 0; row < count; row += 1) {
        const pool = pools[values === "matrix" ? ROW_SIZES : Math.floor(ROW_SIZES * uniform())];
        const from = Math.floor((DRAWS - columns) * uniform());
        block.set(pool.subarray(from, from + columns), row * columns);
      }
      yield new Uint8Array(block.buffer, 0, 2 * count * columns);
    }
  }

  private poolsOf(dtype: "bf16" | "f16"): Uint16Array[] {
    const known = this.pools.get(dtype);
    if (known !== undefined) return known;
    const uniform = uniformGenerator(this.seed);
    const draws = Float64Array.from(
      { length: DRAWS },
      () => MATRIX_DEVIATION * standardNormal(uniform),
    );
    const rowSizes = Array.from({ length: ROW_SIZES }, () => logNormal(uniform));
    const made = [...rowSizes, 1].map((size) =>
      Uint16Array.from(draws, (draw) => encoder(dtype)(size * draw)),
    );
    this.pools.set(dtype, made);
    return made;
  }
}
