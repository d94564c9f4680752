export { BatchModel } from "./batch-model.js";
export { MAX_LANES, type BatchModelParameters } from "./batch-parameters.js";
export {
  copyPlan,
  maskFromPlan,
  planFromMask,
  planFromRows,
  selectedRows,
  validatePlan,
  type ChunkPlan,
} from "./chunk-plan.js";
export { contiguityDistribution, type ContiguityDistribution } from "./contiguity.js";
export {
  DEVICE_PROFILE_SCHEMA_VERSION,
  parseDeviceProfile,
  parseDeviceProfileText,
  type DeviceProfile,
  type ProfileDevice,
  type ProfileNoise,
  type ProfileReader,
  type ProfileValue,
} from "./device-profile.js";
export {
  LatencyModelError,
  type LatencyModelErrorCode,
  type LatencyModelErrorDetails,
} from "./errors.js";
export { estimatePlanNs } from "./estimate.js";
export { MAX_TABLE_SAMPLES, type LatencyCurve, type ProfileSample } from "./latency-curve.js";
export {
  fitBatchModel,
  MIN_BATCH_OBSERVATIONS,
  type BatchModelFixedParts,
  type BatchObservation,
} from "./fit-batch-model.js";
export { fitQuality, proportionalBias } from "./fit-quality.js";
export { LatencyTable } from "./latency-table.js";
export {
  type FitQuality,
  type ProfileBackend,
  type ProfileMask,
  type ProfileQueueSweep,
  type ProfileRound,
  type ProfileValidation,
} from "./profile-evidence.js";
export { ReadRequests, type ReadLimits } from "./read-requests.js";
export { requestTable } from "./request-table.js";
export {
  MAX_QUEUE_DEPTH,
  MAX_READER_THREADS,
  READER_BACKENDS,
  type ReaderBackendName,
  type ReaderTuning,
} from "./reader-tuning.js";
export { monotoneLatencyNs, SATURATION_FRACTION, saturationSizeBytes } from "./saturation.js";
export {
  simulatedDevice,
  SIMULATED_DEVICES,
  type SimulatedDeviceName,
} from "./simulated-devices.js";
