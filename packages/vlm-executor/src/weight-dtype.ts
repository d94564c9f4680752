import type { WeightDtype } from "./backend/compute-backend.js";
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
