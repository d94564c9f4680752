export { VlmExecutor } from "./executor.js";
export type { LogitsRequest, LogitsResult, OpenOptions } from "./executor.js";
export { AnswerStream } from "./ask.js";
export type { Answer, AskRequest } from "./ask.js";
export type { CalibrateOptions, MeasureOptions } from "./calibration/measure.js";
export type { MeasuredCalibration, TypicalInput } from "./calibration/typical-inputs.js";
export {
  allocationPath,
  calibratedModel,
  calibrationPath,
  readAllocations,
  readCalibration,
  requireSameModel,
  writeTogether,
} from "./calibration/store.js";
export type { Balance, SelectionOptions } from "./selection/settings.js";
export type { ModelOptions, PrefetchChoice } from "./open-model.js";
export type { PreparedPrompt, PromptRequest } from "./prompting.js";
export type { ModelInput, PixelInput } from "./model.js";
export type { ClipInput, PictureInput } from "./vision/encoder.js";
export { Session } from "./session.js";
export type {
  AppendFramesOptions,
  AppendImagesOptions,
  AppendTextOptions,
  CallOptions,
  FinishReason,
  GeneratedToken,
  GenerateOptions,
  SessionOptions,
} from "./session.js";
export type { WeightFormat } from "./weight-dtype.js";
export type { SamplingOptions } from "./sampling.js";
export type { MemoryPlan } from "./memory-plan.js";
export type { BundlePrefix, PrefixPlan } from "./prefix-plan.js";
export type { Phase, ProjectionTrace, StepTrace, TraceTotals } from "./trace.js";
export type { DecoderConfig, ModelConfig, MultimodalConfig, VisionConfig } from "./config.js";
export { SUPPORTED_ARCHITECTURES } from "./families/index.js";
export { VlmExecutorError } from "./errors.js";
export type { VlmExecutorErrorCode, VlmExecutorErrorFields } from "./errors.js";
export { kernelBench } from "./kernel-bench.js";
export type { KernelBench, KernelCase, KernelCaseSpec, KernelFeatures } from "./kernel-bench.js";
export { MAX_PICTURE_PIXELS } from "./inputs/index.js";
export type {
  ImageGrouping,
  Picture,
  PictureSource,
  PreparedImage,
  PreparedVideo,
} from "./inputs/index.js";
export type {
  Activation,
  Arithmetic,
  Arrivals,
  AttentionArguments,
  Completion,
  ComputeBackend,
  HostTensor,
  LandedChunks,
  Permutation,
  ResidentRows,
  Rounding,
  RowDtype,
  RowFormat,
  StreamedOutcome,
  StreamedRows,
  StreamLanding,
  Tensor,
  Vector,
  Weight,
  WeightDtype,
} from "./backend/compute-backend.js";
