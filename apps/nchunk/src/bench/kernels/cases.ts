import type { KernelCaseSpec } from "@neuron-chunking/vlm-executor";
import type { KernelEffort } from "./effort";

/** The numbers by which the kernels know element types. */
const DTYPES = { f32: 0, bf16: 1, f16: 2, int8: 3, int4: 4 } as const;
export type DtypeName = keyof typeof DTYPES;

/** Columns that share a scale. */
const GROUP_SIZE = 32;

/** What the bench calls a case. */
export interface NamedCase {
  readonly op: string;
  readonly dtype: DtypeName;
  readonly model: string;
  readonly spec: KernelCaseSpec;
}

interface Shape {
  readonly model: string;
  /** Half of a bundle's rows, which is what a pass at 50 % sparsity multiplies. */
  readonly k: number;
  readonly n: number;
}

/** The bundles of LLaVA-OneVision's decoders: query, key and value; output; gate and up; down. */
export const BUNDLES: readonly Shape[] = [
  { model: "0.5b", k: 448, n: 1152 },
  { model: "0.5b", k: 448, n: 896 },
  { model: "0.5b", k: 448, n: 9728 },
  { model: "0.5b", k: 2432, n: 896 },
  { model: "7b", k: 1792, n: 4608 },
  { model: "7b", k: 1792, n: 3584 },
  { model: "7b", k: 1792, n: 37888 },
  { model: "7b", k: 9472, n: 3584 },
];

/** One token of decoding, a short prompt, a frame. */
export const TOKENS = [1, 16, 196] as const;

const DTYPE_NAMES = Object.keys(DTYPES) as DtypeName[];

const shrunk = (size: number, by: number): number => Math.max(1, Math.round(size / by));

function chunkedCases(shrink: number): NamedCase[] {
  return TOKENS.flatMap((t) =>
    BUNDLES.flatMap(({ model, k, n }) =>
      DTYPE_NAMES.flatMap((dtype) =>
        [false, true].map((randomChunks) => ({
          op: randomChunks ? "chunked-random" : "chunked-resident",
          dtype,
          model,
          spec: {
            op: "chunked" as const,
            dtype: DTYPES[dtype],
            t,
            k: shrunk(k, shrink),
            n: shrunk(n, shrink),
            groupSize: GROUP_SIZE,
            randomChunks,
          },
        })),
      ),
    ),
  );
}

/** The head for words, and the vision tower's products. */
function linearCases(shrink: number): NamedCase[] {
  const shapes = [
    { model: "0.5b", t: 1, k: 896, n: 151936 / 4 },
    { model: "siglip", t: 196, k: 1152, n: 1152 },
    { model: "siglip", t: 196, k: 1152, n: 4304 },
    { model: "siglip", t: 196, k: 4304, n: 1152 },
  ];
  return shapes.map(({ model, t, k, n }) => ({
    op: "linear",
    dtype: "bf16" as const,
    model,
    spec: {
      op: "linear" as const,
      dtype: DTYPES.bf16,
      t,
      k: shrunk(k, shrink),
      n: shrunk(n, shrink),
    },
  }));
}

/** Decoding over a long context, a frame appended to a short one, and the vision tower. */
function attentionCases(shrink: number): NamedCase[] {
  const shapes = [
    { model: "0.5b", t: 1, past: 4000, heads: 14, kvHeads: 2, headDim: 64, causal: true },
    { model: "7b", t: 1, past: 4000, heads: 28, kvHeads: 4, headDim: 128, causal: true },
    { model: "0.5b", t: 196, past: 1000, heads: 14, kvHeads: 2, headDim: 64, causal: true },
    { model: "siglip", t: 729, past: 0, heads: 16, kvHeads: 16, headDim: 72, causal: false },
  ];
  return shapes.map(({ model, t, past, heads, kvHeads, headDim, causal }) => {
    const tokens = shrunk(t, shrink);
    return {
      op: "attention",
      dtype: "f32" as const,
      model,
      spec: {
        op: "attention" as const,
        dtype: DTYPES.f32,
        t: tokens,
        k: tokens + shrunk(past, shrink),
        n: heads * headDim,
        heads,
        kvHeads,
        causal,
      },
    };
  });
}

function normCases(shrink: number): NamedCase[] {
  const shapes = [
    { model: "7b", op: "rmsNorm" as const, t: 1, k: 3584 },
    { model: "7b", op: "rmsNorm" as const, t: 196, k: 3584 },
    { model: "siglip", op: "layerNorm" as const, t: 729, k: 1152 },
  ];
  return shapes.map(({ model, op, t, k }) => ({
    op,
    dtype: "f32" as const,
    model,
    spec: { op, dtype: DTYPES.f32, t: shrunk(t, shrink), k: shrunk(k, shrink), n: 1 },
  }));
}

/**
 * Whether a target that rounds `reduced` (`KernelFeatures.reduced`) computes a case in another way then. Of the decoder's products
 * those in one piece: how rows lie makes no other difference.
 */
export function isRounded({ spec, op, dtype }: NamedCase, reduced: readonly string[]): boolean {
  if (op !== "linear" && op !== "chunked-resident") return false;
  if (spec.t > 1) return reduced.some((name) => name !== "int8-dot");
  return op !== "linear" && dtype.startsWith("int") && reduced.includes("int8-dot");
}

/** Every case, the decoder's products first. */
export function kernelCases({ shrink }: Pick<KernelEffort, "shrink">): NamedCase[] {
  return [
    ...chunkedCases(shrink),
    ...linearCases(shrink),
    ...attentionCases(shrink),
    ...normCases(shrink),
  ];
}
