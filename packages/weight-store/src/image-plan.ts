import type { Checkpoint, CheckpointTensor } from "./checkpoint.js";
import { DTYPE_BYTES, type DType } from "./dtype.js";
import { WeightStoreError } from "./errors.js";
import type { DecoderShape, ExpectedTensor } from "./families/shapes.js";
import { inversePermutation, requirePermutation } from "./permutation.js";
import { quantisedRowLayout, type QuantisedFormat } from "./quantised-row.js";
import { layOutFile, PAGE_BYTES, type FileLayout, type TensorSpec } from "./safetensors-layout.js";

/** Projections that share an input, stored side by side in one row; unbundled images store each alone. */
export type BundleKind =
  "attn_in" | "attn_out" | "mlp_in" | "mlp_out" | "q" | "k" | "v" | "o" | "gate" | "up" | "down";

export const BUNDLE_KINDS: readonly BundleKind[] = [
  "attn_in",
  "attn_out",
  "mlp_in",
  "mlp_out",
  "q",
  "k",
  "v",
  "o",
  "gate",
  "up",
  "down",
];

/** Columns of a bundle's rows that belong to one projection. */
export interface PartPlan {
  name: string;
  columnOffset: number;
  columns: number;
  /** HF layout [columns, rows]. */
  source: CheckpointTensor;
  /** columnOrder[source output] = stored column within the part; absent: as in the source. */
  columnOrder?: Uint32Array;
}

/** One bundle: a matrix [rows, columns] whose row i holds the weights of one input channel. */
export interface BundlePlan {
  name: string;
  kind: BundleKind;
  layer: number;
  rows: number;
  columns: number;
  /** Of a stored row. */
  rowBytes: number;
  /** Of the sources. */
  dtype: Exclude<DType, "u32">;
  /** What the weights become; absent: they are stored as in the sources. */
  quantised?: QuantisedFormat;
  parts: PartPlan[];
  /** rowOrder[stored row] = original input channel; absent: the original order. */
  rowOrder?: Uint32Array;
  /** The producer of this input already delivers it in stored order, so nothing is gathered at run time. */
  folded: boolean;
}

/** A tensor of resident.safetensors: copied from the checkpoint, or a permutation. */
export interface ResidentPlan {
  name: string;
  dtype: DType;
  shape: readonly number[];
  source: CheckpointTensor | Uint32Array;
}

/** Every byte of a flash image, decided before any is written. */
export interface ImagePlan {
  bundles: BundlePlan[];
  residents: ResidentPlan[];
  flash: FileLayout;
  resident: FileLayout;
}

interface ProjectionGroup {
  kind: BundleKind;
  projections: readonly string[];
}

const BUNDLED: readonly ProjectionGroup[] = [
  { kind: "attn_in", projections: ["q_proj", "k_proj", "v_proj"] },
  { kind: "attn_out", projections: ["o_proj"] },
  { kind: "mlp_in", projections: ["gate_proj", "up_proj"] },
  { kind: "mlp_out", projections: ["down_proj"] },
];

const UNBUNDLED: readonly ProjectionGroup[] = [
  { kind: "q", projections: ["q_proj"] },
  { kind: "k", projections: ["k_proj"] },
  { kind: "v", projections: ["v_proj"] },
  { kind: "o", projections: ["o_proj"] },
  { kind: "gate", projections: ["gate_proj"] },
  { kind: "up", projections: ["up_proj"] },
  { kind: "down", projections: ["down_proj"] },
];

/** SIMD loads of resident weights start on a cache line; big tables start on a page so that one row can be read alone. */
const RESIDENT_ALIGNMENT_BYTES = 64;

/** Name of the tensor in resident.safetensors that holds a bundle's row order. */
export function permutationTensorName(bundle: string): string {
  return `permutations.${bundle}`;
}

/**
 * Checks every tensor of a checkpoint against its configuration and decides where each byte of the image goes.
 * @param permutations By bundle name: permutation[stored row] = original input channel.
 * @param quantised What the bundles' weights become; absent: they are stored as they are.
 * @throws WeightStoreError MISSING_TENSOR, UNEXPECTED_TENSOR, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, INVALID_ARGUMENT.
 */
export function planImage(
  checkpoint: Checkpoint,
  bundled: boolean,
  permutations: Readonly<Record<string, Uint32Array>>,
  quantised?: QuantisedFormat,
): ImagePlan {
  const { decoder } = checkpoint.model;
  const expected = [...checkpoint.family.residents(checkpoint.model), ...headTensor(checkpoint)];
  const projections = projectionTensors(decoder);
  requireTensors(checkpoint, [...expected, ...projections]);
  const bundles: BundlePlan[] = [];
  for (let layer = 0; layer < decoder.layers; layer++) {
    for (const group of bundled ? BUNDLED : UNBUNDLED) {
      bundles.push(planBundle(checkpoint, layer, group, quantised));
    }
  }
  applyPermutations(bundles, permutations);
  const residents = planResidents(checkpoint, expected, bundles);
  return {
    bundles,
    residents,
    flash: layOutFile(bundles.map(bundleSpec), flashMetadata(quantised)),
    resident: layOutFile(residents.map(residentSpec), { format: "neuron-chunking/resident" }),
  };
}

/** Tells whoever opens the file with another tool what the bytes of quantised rows are. */
function flashMetadata(quantised: QuantisedFormat | undefined): Record<string, string> {
  const format = "neuron-chunking/flash";
  if (quantised === undefined) return { format };
  return { format, dtype: quantised.dtype, groupSize: String(quantised.groupSize) };
}

/** A head in the checkpoint is used; without one the embeddings must be declared as the head. */
function headTensor({ model, tensors }: Checkpoint): ExpectedTensor[] {
  const { vocabSize, hiddenSize, tieWordEmbeddings } = model.decoder;
  if (!tensors.has("lm_head.weight") && tieWordEmbeddings) return [];
  return [{ name: "lm_head.weight", shape: [vocabSize, hiddenSize] }];
}

function projectionTensors(decoder: DecoderShape): ExpectedTensor[] {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim } = decoder;
  const attentionSize = heads * headDim;
  const shapes: readonly [string, readonly number[]][] = [
    ["self_attn.q_proj", [attentionSize, hiddenSize]],
    ["self_attn.k_proj", [kvHeads * headDim, hiddenSize]],
    ["self_attn.v_proj", [kvHeads * headDim, hiddenSize]],
    ["self_attn.o_proj", [hiddenSize, attentionSize]],
    ["mlp.gate_proj", [intermediateSize, hiddenSize]],
    ["mlp.up_proj", [intermediateSize, hiddenSize]],
    ["mlp.down_proj", [hiddenSize, intermediateSize]],
  ];
  return Array.from({ length: decoder.layers }, (_, layer) =>
    shapes.map(([name, shape]) => ({ name: `decoder.layers.${layer}.${name}.weight`, shape })),
  ).flat();
}

/** How many names an error message spells out. */
const NAMES_SHOWN = 8;

function requireTensors(checkpoint: Checkpoint, expected: readonly ExpectedTensor[]): void {
  const { dir, tensors } = checkpoint;
  const names = new Set(expected.map(({ name }) => name));
  const missing = expected
    .filter(({ name, optional }) => optional !== true && !tensors.has(name))
    .map(({ name }) => name);
  if (missing.length > 0) {
    throw new WeightStoreError(
      "MISSING_TENSOR",
      `${dir} lacks ${listed(missing)}, which its config.json asks for. Download or export it again.`,
      { path: dir, name: missing[0], expected: missing },
    );
  }
  const unexpected = [...tensors.values()].filter(({ name }) => !names.has(name));
  if (unexpected.length > 0) {
    const found = unexpected.map(({ sourceName }) => sourceName);
    throw new WeightStoreError(
      "UNEXPECTED_TENSOR",
      `${dir} holds ${listed(found)}, which ${checkpoint.model.family} models do not have. ` +
        `Merge adapters and dequantize before exporting, and check that config.json belongs to these weights.`,
      { path: dir, name: found[0], got: found },
    );
  }
  for (const { name, shape } of expected) {
    const tensor = tensors.get(name);
    if (tensor !== undefined && !sameShape(tensor.shape, shape)) {
      throw new WeightStoreError(
        "SHAPE_MISMATCH",
        `${tensor.path}: ${tensor.sourceName} is [${tensor.shape.join(", ")}], config.json asks for ` +
          `[${shape.join(", ")}]. config.json and weights belong to different models.`,
        { path: tensor.path, name: tensor.sourceName, expected: shape, got: tensor.shape },
      );
    }
  }
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN).join(", ");
  return names.length > NAMES_SHOWN ? `${shown} and ${names.length - NAMES_SHOWN} more` : shown;
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, index) => size === b[index]);
}

function planBundle(
  checkpoint: Checkpoint,
  layer: number,
  group: ProjectionGroup,
  quantised: QuantisedFormat | undefined,
): BundlePlan {
  const parts: PartPlan[] = [];
  let columns = 0;
  for (const projection of group.projections) {
    const module = /^[qkvo]_proj$/.test(projection) ? "self_attn" : "mlp";
    const source = required(checkpoint, `decoder.layers.${layer}.${module}.${projection}.weight`);
    const dtype = parts[0]?.source.dtype ?? source.dtype;
    if (source.dtype !== dtype) {
      throw new WeightStoreError(
        "UNSUPPORTED_DTYPE",
        `${source.path}: ${source.sourceName} is ${source.dtype}, but ${parts[0].source.sourceName} is ${dtype}; ` +
          `projections that share an input must share a dtype. Convert unbundled, or export in one dtype.`,
        { path: source.path, name: source.sourceName, expected: dtype, got: source.dtype },
      );
    }
    parts.push({ name: projection, columnOffset: columns, columns: source.shape[0], source });
    columns += source.shape[0];
  }
  const { dtype, shape } = parts[0].source;
  return {
    name: `layers.${layer}.${group.kind}`,
    kind: group.kind,
    layer,
    rows: shape[1],
    columns,
    rowBytes:
      quantised === undefined
        ? columns * DTYPE_BYTES[dtype]
        : quantisedRowLayout(quantised, columns).rowBytes,
    dtype,
    ...(quantised === undefined ? {} : { quantised }),
    parts,
    folded: false,
  };
}

function required(checkpoint: Checkpoint, name: string): CheckpointTensor {
  const tensor = checkpoint.tensors.get(name);
  if (tensor === undefined) throw new TypeError(`${name} was not checked before`);
  return tensor;
}

/**
 * Gives bundles their row orders. The inner channels of the MLP exist only between two projections, so their order is
 * folded into the columns of gate and up, and the down projection needs no gather at run time (paper, section 3.3).
 */
function applyPermutations(
  bundles: readonly BundlePlan[],
  permutations: Readonly<Record<string, Uint32Array>>,
): void {
  const byName = new Map(bundles.map((bundle) => [bundle.name, bundle]));
  for (const [name, permutation] of Object.entries(permutations)) {
    const bundle = byName.get(name);
    if (bundle === undefined) {
      throw new WeightStoreError(
        "INVALID_ARGUMENT",
        `permutations names ${name}, which this image does not have; its bundles are called ` +
          `${bundles
            .slice(0, 7)
            .map((known) => known.name)
            .join(", ")}, ...`,
        { name },
      );
    }
    requirePermutation(permutation, bundle.rows, name);
    bundle.rowOrder = permutation;
    if (bundle.kind !== "mlp_out" && bundle.kind !== "down") continue;
    bundle.folded = true;
    const columnOrder = inversePermutation(permutation);
    for (const kind of ["mlp_in", "gate", "up"]) {
      const producer = byName.get(`layers.${bundle.layer}.${kind}`);
      for (const part of producer?.parts ?? []) part.columnOrder = columnOrder;
    }
  }
}

function planResidents(
  checkpoint: Checkpoint,
  expected: readonly ExpectedTensor[],
  bundles: readonly BundlePlan[],
): ResidentPlan[] {
  const residents: ResidentPlan[] = [];
  for (const { name } of expected) {
    const source = checkpoint.tensors.get(name);
    if (source === undefined) continue;
    residents.push({ name, dtype: source.dtype, shape: source.shape, source });
  }
  for (const { name, rowOrder, rows } of bundles) {
    if (rowOrder === undefined) continue;
    residents.push({
      name: permutationTensorName(name),
      dtype: "u32",
      shape: [rows],
      source: rowOrder,
    });
  }
  return residents;
}

function bundleSpec({ name, dtype, quantised, rows, columns, rowBytes }: BundlePlan): TensorSpec {
  return quantised === undefined
    ? { name, dtype, shape: [rows, columns], alignmentBytes: PAGE_BYTES }
    : { name, dtype: "u8", shape: [rows, rowBytes], alignmentBytes: PAGE_BYTES };
}

function residentSpec({ name, dtype, shape }: ResidentPlan): TensorSpec {
  const large = shape.length === 2 && shape[0] * shape[1] * DTYPE_BYTES[dtype] >= PAGE_BYTES;
  return { name, dtype, shape, alignmentBytes: large ? PAGE_BYTES : RESIDENT_ALIGNMENT_BYTES };
}
