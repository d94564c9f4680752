import { createRequire } from "node:module";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { ACTIVATION, DTYPE, kernels } from "../src/binding";

/** Sums of a few hundred f32 products. */
const SUM_TOLERANCE = 1e-5;

/** Small deterministic values around zero; exact in bf16. */
function values(count: number, seed: number): Float32Array {
  const out = new Float32Array(count);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = ((state >>> 24) - 128) / 64;
  }
  return out;
}

/** bf16 bytes of values that bf16 holds exactly, at an odd address. */
function bf16Bytes(source: Float32Array): Uint8Array {
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  const bytes = new Uint8Array(source.length * 2 + 1).subarray(1);
  for (let i = 0; i < source.length; i++) {
    bytes[2 * i] = (bits[i] >>> 16) & 255;
    bytes[2 * i + 1] = bits[i] >>> 24;
  }
  return bytes;
}

function closeTo(got: Float32Array, want: Float64Array | number[]): void {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < got.length; i++) {
    if (Math.abs(got[i] - want[i]) > SUM_TOLERANCE * (1 + Math.abs(want[i]))) {
      throw new Error(`element ${i}: got ${got[i]}, want ${want[i]}`);
    }
  }
}

const shape = fc.record({
  t: fc.integer({ min: 1, max: 20 }),
  k: fc.integer({ min: 1, max: 70 }),
  n: fc.integer({ min: 1, max: 70 }),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
});

const target = kernels.features().target;
afterAll(() => {
  kernels.forceTarget(target);
});

describe.each(kernels.availableTargets())("kernels on %s", (name) => {
  it("multiplies chunks as the naive loop does", async () => {
    await fc.assert(
      fc.asyncProperty(shape, fc.boolean(), async ({ t, k, n, seed }, accumulate) => {
        kernels.forceTarget(name);
        const x = values(t * k, seed);
        const weights = values(k * n, seed + 1);
        const bytes = bf16Bytes(weights);
        const rowBytes = 2 * n;
        // Every third run of up to four rows is left out; the others land in reverse order.
        const starts: number[] = [];
        const lengths: number[] = [];
        for (let row = seed % 3; row < k; row += 6) {
          starts.push(row);
          lengths.push(Math.min(4, k - row));
        }
        const landing = new Uint8Array(k * rowBytes + 7);
        const offsets = new Float64Array(starts.length);
        let end = landing.length;
        starts.forEach((start, c) => {
          end -= lengths[c] * rowBytes;
          offsets[c] = end;
          landing.set(bytes.subarray(start * rowBytes, (start + lengths[c]) * rowBytes), end);
        });
        const y = new Float32Array(t * n).fill(0.5);
        await kernels.chunkedMatmul(
          x,
          t,
          k,
          Uint32Array.from(starts),
          Uint32Array.from(lengths),
          starts.length,
          landing,
          offsets,
          rowBytes,
          DTYPE.bf16,
          n,
          y,
          accumulate,
        );
        const want = new Float64Array(t * n).fill(accumulate ? 0.5 : 0);
        starts.forEach((start, c) => {
          for (let row = start; row < start + lengths[c]; row++) {
            for (let i = 0; i < t; i++) {
              for (let j = 0; j < n; j++) want[i * n + j] += x[i * k + row] * weights[row * n + j];
            }
          }
        });
        closeTo(y, want);
      }),
      { numRuns: 40 },
    );
  });

  it("multiplies by a Hugging Face matrix, with bias and activation", async () => {
    await fc.assert(
      fc.asyncProperty(shape, async ({ t, k, n, seed }) => {
        kernels.forceTarget(name);
        const x = values(t * k, seed);
        const weight = values(n * k, seed + 1);
        const bias = values(n, seed + 2);
        const y = new Float32Array(t * n);
        await kernels.linear(x, t, k, bf16Bytes(weight), DTYPE.bf16, n, bias, y);
        const want = new Float64Array(t * n);
        for (let i = 0; i < t; i++) {
          for (let j = 0; j < n; j++) {
            want[i * n + j] = bias[j];
            for (let c = 0; c < k; c++) want[i * n + j] += x[i * k + c] * weight[j * k + c];
          }
        }
        closeTo(y, want);
        const tanh = new Float32Array(t * n);
        const bytes = new Uint8Array(weight.buffer);
        await kernels.linear(x, t, k, bytes, DTYPE.f32, n, bias, tanh, ACTIVATION.geluTanh);
        closeTo(
          tanh,
          want.map(
            (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
          ),
        );
      }),
      { numRuns: 40 },
    );
  });

  it("attends causally with grouped heads", async () => {
    kernels.forceTarget(name);
    const [t, past, qHeads, kvHeads, headDim] = [9, 100, 4, 2, 18];
    const stride = (qHeads + 2 * kvHeads) * headDim;
    const q = values(t * stride, 3);
    const keys = values((past + t) * kvHeads * headDim, 4);
    const vals = values((past + t) * kvHeads * headDim, 5);
    const out = new Float32Array(t * qHeads * headDim);
    const scale = 1 / Math.sqrt(headDim);
    await kernels.attention(
      q, t, stride, 0, qHeads, kvHeads, headDim, keys, vals, past + t, past, true, scale, out,
    ); // prettier-ignore
    const want = new Float64Array(out.length);
    for (let i = 0; i < t; i++) {
      for (let h = 0; h < qHeads; h++) {
        const kv = Math.floor(h / (qHeads / kvHeads)) * headDim;
        const p = Array.from({ length: past + i + 1 }, (_, j) => {
          let dot = 0;
          for (let c = 0; c < headDim; c++) {
            dot += q[i * stride + h * headDim + c] * keys[j * kvHeads * headDim + kv + c];
          }
          return dot * scale;
        });
        const best = Math.max(...p);
        const sum = p.reduce((total, v) => total + Math.exp(v - best), 0);
        p.forEach((v, j) => {
          for (let c = 0; c < headDim; c++) {
            want[(i * qHeads + h) * headDim + c] +=
              (Math.exp(v - best) / sum) * vals[j * kvHeads * headDim + kv + c];
          }
        });
      }
    }
    closeTo(out, want);
  });
});

describe("the binding", () => {
  const x = new Float32Array(12);
  const invalid = expect.objectContaining({
    name: "RangeError",
    code: "KERNELS_INVALID_ARGUMENT",
  }) as unknown as Error;
  const bytes = new Uint8Array(24);
  const one = Uint32Array.of(1);

  it.each<[string, () => unknown]>([
    ["an input that is too short", () => kernels.importance(x, 4, 4, x)],
    ["an output that is too short", () => kernels.importance(x, 1, 12, new Float32Array(11))],
    ["a size that is not whole", () => kernels.importance(x, 1.5, 2, x)],
    ["a negative size", () => kernels.importance(x, -1, 2, x)],
    ["a huge size", () => kernels.importance(x, 2 ** 31, 2 ** 31, x)],
    ["a permutation out of range", () => kernels.gather(x, 1, 2, Uint32Array.of(0, 2), x)],
    ["an id out of range", () => kernels.embed(bytes, DTYPE.bf16, 4, Int32Array.of(3), x)],
    ["a negative id", () => kernels.embed(bytes, DTYPE.bf16, 4, Int32Array.of(-1), x)],
    ["an unknown dtype", () => kernels.toF32(bytes, 3 as 0, 1, x)],
    ["an odd head", () => kernels.rope(x, 1, 9, 0, 3, 3, Float64Array.of(0), x)],
    ["heads beyond a row", () => kernels.rope(x, 1, 4, 2, 1, 4, Float64Array.of(0), x)],
    ["too many threads", () => kernels.setThreads(257)],
    ["an unknown target", () => kernels.forceTarget("abacus")],
    ["weights that are too short", () => kernels.linear(x, 1, 4, bytes, DTYPE.bf16, 4, null, x)],
    ["an empty key cache", () => kernels.attention(x, 1, 4, 0, 1, 1, 4, x, x, 0, 0, true, 1, x)],
    [
      "heads that do not divide",
      () => kernels.attention(x, 1, 6, 0, 3, 2, 2, x, x, 1, 0, true, 1, x),
    ],
    [
      "a chunk beyond the rows",
      () =>
        kernels.chunkedMatmul(x, 1, 4, Uint32Array.of(3), Uint32Array.of(2), 1, bytes, Float64Array.of(0), 4, 1, 2, x, false), // prettier-ignore
    ],
    [
      "a chunk beyond the landing bytes",
      () =>
        kernels.chunkedMatmul(x, 1, 4, one, one, 1, bytes, Float64Array.of(21), 4, 1, 2, x, false), // prettier-ignore
    ],
    [
      "an offset that is not a number",
      () =>
        kernels.chunkedMatmul(x, 1, 4, one, one, 1, bytes, Float64Array.of(NaN), 4, 1, 2, x, false), // prettier-ignore
    ],
    [
      "rows narrower than their elements",
      () =>
        kernels.chunkedMatmul(x, 1, 4, one, one, 1, bytes, Float64Array.of(0), 3, 1, 2, x, false), // prettier-ignore
    ],
  ])("refuses %s", (_, call) => {
    expect(call).toThrow(invalid);
  });

  it("refuses another kind of array with a TypeError", () => {
    expect(() =>
      kernels.importance(new Float64Array(4) as unknown as Float32Array, 1, 4, x),
    ).toThrow(TypeError);
  });

  it("moves large work off the main thread", async () => {
    const [t, k, n] = [64, 1024, 1024];
    const y = new Float32Array(t * n);
    const done = kernels.linear(new Float32Array(t * k).fill(1), t, k, new Uint8Array(4 * n * k), DTYPE.f32, n, null, y); // prettier-ignore
    expect(done).toBeInstanceOf(Promise);
    await done;
    expect(y.every((v) => v === 0)).toBe(true);
  });

  it("keeps the arrays of work in flight alive, whatever the garbage collector does", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    kernels.forceTarget("portable"); // slow enough to be still at work below
    const [t, k, n] = [256, 1024, 1024];
    const y = new Float32Array(t * n);
    // In a function of its own, so that nothing here refers to the input and the weights.
    const start = () => {
      const weights = new Uint8Array(4 * n * k);
      const x = new Float32Array(t * k).fill(1);
      const bias = new Float32Array(n).fill(3);
      const done = kernels.linear(x, t, k, weights, DTYPE.f32, n, bias, y);
      return { done, refs: [x, weights, bias].map((array) => new WeakRef(array)) };
    };
    const { done, refs } = start();
    let settled = false;
    void done?.then(() => (settled = true));
    await new Promise((resolve) => setImmediate(resolve)); // a WeakRef holds its target until the turn ends
    collect();
    if (!settled) expect(refs.every((ref) => ref.deref() !== undefined)).toBe(true);
    await done;
    expect(y.every((v) => v === 3)).toBe(true);
    kernels.forceTarget(target);
  });

  it("survives a worker_thread that is terminated in the middle of work", async () => {
    const addon = createRequire(import.meta.url).resolve("@neuron-chunking/kernels-addon");
    const script = `
      const { parentPort } = require("node:worker_threads");
      const kernels = require(${JSON.stringify(addon)});
      const x = new Float32Array(64 * 1024), w = new Uint8Array(2 * 1024 * 1024), y = new Float32Array(64 * 1024);
      for (let i = 0; i < 4; i++) kernels.linear(x, 64, 1024, w, 1, 1024, null, y);
      parentPort.postMessage("started");`;
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(script, { eval: true });
      await new Promise((resolve) => worker.once("message", resolve));
      await worker.terminate();
    }
    expect(kernels.features().threads).toBeGreaterThan(0);
  }, 30_000);
});
