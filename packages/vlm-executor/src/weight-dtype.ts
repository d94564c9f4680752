import type { BundleInfo } from "@neuron-chunking/weight-store";
import type {
  ComputeBackend,
  Rounding,
  RowDtype,
  RowFormat,
  WeightDtype,
} from "./backend/compute-backend.js";
import { VlmExecutorError } from "./errors.js";

const WEIGHT_DTYPES: readonly string[] = ["f32", "bf16", "f16"] satisfies WeightDtype[];

/** @throws VlmExecutorError `WRONG_SHAPE` for a type no kernel multiplies with */
export function requireWeightDtype(dtype: string, name: string): WeightDtype {
  if (WEIGHT_DTYPES.includes(dtype)) return dtype as WeightDtype;
  throw new VlmExecutorError(
    "WRONG_SHAPE",
    `${name} is stored as ${dtype}; weights must be ${WEIGHT_DTYPES.join(", ")}.`,
    { expected: WEIGHT_DTYPES, got: dtype },
  );
}

/** How the rows of a stored matrix are written, for the backend. */
export function rowFormat({ rowBytes, parts, dtype, groupSize }: BundleInfo): RowFormat {
  const columns = parts.reduce((sum, part) => sum + part.columns, 0);
  return { rowBytes, columns, dtype, groupSize };
}

/** How streamed weights are stored. */
export interface WeightFormat {
  readonly dtype: RowDtype;
  /** Of "int8" and "int4", which are lossy with respect to the checkpoint: columns that share a scale. */
  readonly groupSize?: number;
}

/** Every way that weights of an image are stored, once. */
export function weightFormats(
  bundles: readonly Pick<BundleInfo, "dtype" | "groupSize">[],
): WeightFormat[] {
  const formats = new Map<string, WeightFormat>();
  for (const { dtype, groupSize } of bundles) {
    const format = groupSize === undefined ? { dtype } : { dtype, groupSize };
    formats.set(`${dtype}/${groupSize}`, format);
  }
  return [...formats.values()];
}

/** What of a backend's rounding concerns weights stored so: activations are rounded to 8 bits for rows of 4 bits only. */
export function roundingOf(
  { rounding }: Pick<ComputeBackend, "rounding">,
  bundles: readonly Pick<BundleInfo, "dtype">[],
): Rounding[] {
  const hasInt4 = bundles.some(({ dtype }) => dtype === "int4");
  return rounding.filter((name) => name !== "int8-dot" || hasInt4);
}

/** @throws VlmExecutorError `KERNELS_UNAVAILABLE` for rows of a type that the backend cannot multiply with */
export function requireRowDtypes(
  bundles: readonly Pick<BundleInfo, "name" | "dtype">[],
  { description, rowDtypes }: Pick<ComputeBackend, "description" | "rowDtypes">,
): void {
  const bundle = bundles.find(({ dtype }) => !rowDtypes.includes(dtype));
  if (bundle === undefined) return;
  const { name, dtype } = bundle;
  throw new VlmExecutorError(
    "KERNELS_UNAVAILABLE",
    `${name} is stored as ${dtype}, which the backend ${description} cannot multiply with; it knows ${rowDtypes.join(", ")}. ` +
      `Update @neuron-chunking/kernels-addon, or convert the checkpoint to one of these.`,
    { bundle: name, expected: rowDtypes, got: dtype },
  );
}
