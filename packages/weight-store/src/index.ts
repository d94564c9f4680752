export {
  ensureFlashImage,
  isUpToDate,
  type EnsuredFlashImage,
  type EnsureFlashImageOptions,
} from "./cache.js";
export { convertCheckpoint, type ConvertOptions, type ConvertProgress } from "./convert.js";
export { DTYPE_BYTES, type BundleDType, type DType } from "./dtype.js";
export {
  WeightStoreError,
  type WeightStoreErrorCode,
  type WeightStoreErrorFields,
} from "./errors.js";
export { SUPPORTED_MODEL_TYPES } from "./families/index.js";
export type { DecoderShape, ModelShape, VisionShape } from "./families/shapes.js";
export {
  FlashImage,
  openFlashImage,
  type BundleInfo,
  type OpenFlashImageOptions,
} from "./flash-image.js";
export type { BundleKind } from "./image-plan.js";
export {
  parseManifest,
  readManifest,
  SCHEMA_VERSION,
  type BundlePart,
  type HashedFile,
  type Manifest,
  type ManifestBundle,
  type ManifestTensor,
  type SourceFile,
} from "./manifest.js";
export type { GroupSize, QuantisationError, QuantisedDType } from "./quantised-row.js";
export type { TensorView } from "./resident-tensors.js";
export {
  readSafetensorsHeader,
  type SafetensorsEntry,
  type SafetensorsHeader,
} from "./safetensors.js";
export type { ImageOptions } from "./sources.js";
export { verifyFlashImage, type VerifyOptions } from "./verify.js";
