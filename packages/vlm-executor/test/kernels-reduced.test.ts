/** Products that may round their operands, on every target: within the bounds that native/kernels/README.md states. */
import { afterAll, describe, expect, it } from "vitest";
import { DTYPE, kernels } from "../src/binding.js";

/** Relative, of a number rounded to bf16. */
const ROUNDING = 2 ** -8;
/** Of sums in f32, in units of the sum of absolute terms. */
const SUM = 2e-6;

const T = 17;
const K = 301;
const N = 83;

/** Values in (-1, 1) with all 24 bits of f32. */
function values(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 7) / 2 ** 24 - 1;
  });
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** y [T, N] of weights as chunked rows, or as a Hugging Face matrix. */
async function multiply(
  op: "chunked" | "linear",
  x: Float32Array,
  weights: Float32Array,
  reduced?: boolean,
): Promise<Float32Array> {
  const y = new Float32Array(T * N);
  if (op === "linear") {
    await kernels.linear(x, T, K, bytesOf(weights), DTYPE.f32, N, null, y, undefined, reduced);
  } else {
    const rows = Uint32Array.of(K);
    const start = Uint32Array.of(0);
    const offset = Float64Array.of(0);
    await kernels.chunkedMatmul(x, T, K, start, rows, 1, bytesOf(weights), offset, 4 * N, DTYPE.f32, N, y, false, null, reduced); // prettier-ignore
  }
  return y;
}

const target = kernels.features().target;
afterAll(() => {
  kernels.forceTarget(target);
});

describe.each(kernels.availableTargets())("reduced products on %s", (name) => {
  it.each(["chunked", "linear"] as const)("%s: rounded where the target says so", async (op) => {
    kernels.forceTarget(name);
    const rounds = kernels.features().reduced.includes("bf16-dot");
    const x = values(T * K, 1);
    const weights = values(K * N, 2);
    const exact = await multiply(op, x, weights);
    expect(await multiply(op, x, weights, false)).toEqual(exact);
    const reduced = await multiply(op, x, weights, true);
    if (!rounds) {
      expect(reduced).toEqual(exact);
      return;
    }
    expect(reduced).not.toEqual(exact);
    const bound = 2 * ROUNDING + ROUNDING ** 2 + SUM;
    for (let t = 0; t < T; t++) {
      for (let j = 0; j < N; j++) {
        let want = 0;
        let terms = 0;
        for (let i = 0; i < K; i++) {
          const product = x[t * K + i] * weights[op === "linear" ? j * K + i : i * N + j];
          want += product;
          terms += Math.abs(product);
        }
        expect(Math.abs(reduced[t * N + j] - want)).toBeLessThanOrEqual(bound * terms);
      }
    }
  });
});

describe("the argument reduced", () => {
  it("is a boolean or left out", () => {
    const x = new Float32Array(4);
    const bytes = new Uint8Array(16);
    const wrong = 1 as unknown as boolean;
    expect(() => kernels.linear(x, 1, 4, bytes, DTYPE.f32, 1, null, x, 0, wrong)).toThrow(
      expect.objectContaining({ code: "KERNELS_INVALID_ARGUMENT" }) as Error,
    );
  });

  it("is named for what is used: a target without a suffix rounds nothing", () => {
    for (const name of kernels.availableTargets()) {
      kernels.forceTarget(name);
      const { reduced } = kernels.features();
      if (!name.includes("-")) expect(reduced).toEqual([]);
      if (name.endsWith("-bf16")) expect(reduced).toContain("bf16-dot");
    }
  });
});
