import { WeightStoreError } from "./errors.js";
import type { QuantisedDType } from "./quantised-row.js";

/** Element types of weights this package stores and hands out. `u32` is used for permutations only. */
export type DType = "f32" | "bf16" | "f16" | "u32";

/** Types of the weights of a bundle: the checkpoint's, or quantised ones, whose rows are bytes to other tools. */
export type BundleDType = Exclude<DType, "u32"> | QuantisedDType;

/** Element types of the tensors an image's files declare: quantised rows are `u8` there. */
export type StorageDType = DType | "u8";

/** Bytes of one element. */
export const DTYPE_BYTES: Readonly<Record<DType, number>> = { f32: 4, bf16: 2, f16: 2, u32: 4 };

/** Bits of one element of each dtype the safetensors format knows (its Rust reference, 0.6). */
export const SAFETENSORS_DTYPE_BITS: ReadonlyMap<string, number> = new Map([
  ["BOOL", 8],
  ["F4", 4],
  ["F6_E2M3", 6],
  ["F6_E3M2", 6],
  ["U8", 8],
  ["I8", 8],
  ["F8_E5M2", 8],
  ["F8_E4M3", 8],
  ["F8_E8M0", 8],
  ["F8_E5M2FNUZ", 8],
  ["F8_E4M3FNUZ", 8],
  ["I16", 16],
  ["U16", 16],
  ["F16", 16],
  ["BF16", 16],
  ["I32", 32],
  ["U32", 32],
  ["F32", 32],
  ["C64", 64],
  ["F64", 64],
  ["I64", 64],
  ["U64", 64],
]);

const FROM_SAFETENSORS: ReadonlyMap<string, DType> = new Map([
  ["F32", "f32"],
  ["BF16", "bf16"],
  ["F16", "f16"],
  ["U32", "u32"],
]);

const TO_SAFETENSORS: Readonly<Record<StorageDType, string>> = {
  u8: "U8",
  f32: "F32",
  bf16: "BF16",
  f16: "F16",
  u32: "U32",
};

/** The safetensors spelling of a dtype. */
export function safetensorsDType(dtype: StorageDType): string {
  return TO_SAFETENSORS[dtype];
}

/** Bytes of one element of a tensor in an image's files. */
export function storageBytes(dtype: StorageDType): number {
  return dtype === "u8" ? 1 : DTYPE_BYTES[dtype];
}

/**
 * The dtype of a weight tensor.
 * @throws WeightStoreError UNSUPPORTED_DTYPE for anything but F32, BF16 and F16.
 */
export function weightDType(
  safetensorsName: string,
  tensor: string,
  path: string,
): Exclude<DType, "u32"> {
  const dtype = FROM_SAFETENSORS.get(safetensorsName);
  if (dtype === undefined || dtype === "u32") {
    throw new WeightStoreError(
      "UNSUPPORTED_DTYPE",
      `${tensor} in ${path} is ${safetensorsName}; weights must be F32, BF16 or F16. ` +
        `Quantized checkpoints must be converted to one of these first.`,
      { path, name: tensor, expected: ["F32", "BF16", "F16"], got: safetensorsName },
    );
  }
  return dtype;
}
