export { createSelector } from "./create-selector.js";
export {
  ChunkSelectorError,
  type ChunkSelectorErrorCode,
  type ChunkSelectorErrorDetails,
} from "./errors.js";
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
export { POLICY_NAMES, type PolicyName, type SelectionRequest, type Selector } from "./policy.js";
export { ACTIVE_SHARE, activationFrequencies, hotColdPermutation } from "./reorder.js";
