export { createSelector } from "./create-selector.js";
export {
  ChunkSelectorError,
  type ChunkSelectorErrorCode,
  type ChunkSelectorErrorDetails,
} from "./errors.js";
export { exactPlan, type ExactPlan, type ExactPlanRequest } from "./exact-oracle.js";
export { MAX_CANDIDATES } from "./greedy-chunks.js";
export {
  defaultHyperparameters,
  PAPER_HYPERPARAMETERS,
  windowRows,
  type ChunkHyperparameters,
  type HyperparameterQuery,
  type PaperHyperparameters,
  type WindowRows,
} from "./hyperparameters.js";
export { budgetRows, importanceKept, importanceOf } from "./importance.js";
export {
  POLICY_NAMES,
  type LagrangeSelector,
  type LagrangeSolution,
  type PolicyName,
  type SelectionRequest,
  type Selector,
} from "./policy.js";
export { ACTIVE_SHARE, activationFrequencies, hotColdPermutation } from "./reorder.js";
export {
  allocateSparsity,
  errorAtSparsity,
  type SparsityAllocation,
  type SparsityCurve,
} from "./allocate.js";
export {
  CALIBRATION_SCHEMA_VERSION,
  createCalibration,
  parseAllocationFile,
  parseAllocationFileText,
  parseCalibration,
  parseCalibrationText,
  sparsityCurves,
  tealAllocations,
  weightOf,
  type CalibratedBundle,
  type CalibratedModel,
  type Calibration,
  type CalibrationSource,
  type ImportanceStatistics,
  type SensitivityPoint,
  type SparsityAllocationFile,
  type StoredAllocation,
} from "./calibration-file.js";
export {
  PriceController,
  type PriceControllerOptions,
  type SelectionLimit,
} from "./price-controller.js";
export { topkImportance } from "./topk-importance.js";
