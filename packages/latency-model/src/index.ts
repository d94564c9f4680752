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
  MAX_TABLE_SAMPLES,
  parseDeviceProfile,
  parseDeviceProfileText,
  type DeviceProfile,
  type ProfileDevice,
  type ProfileNoise,
  type ProfileReader,
  type ProfileSample,
  type ProfileValue,
} from "./device-profile.js";
export {
  LatencyModelError,
  type LatencyModelErrorCode,
  type LatencyModelErrorDetails,
} from "./errors.js";
export { estimatePlanNs } from "./estimate.js";
export { LatencyTable } from "./latency-table.js";
export { monotoneLatencyNs, SATURATION_FRACTION, saturationSizeBytes } from "./saturation.js";
export {
  simulatedDevice,
  SIMULATED_DEVICES,
  type SimulatedDeviceName,
} from "./simulated-devices.js";
