/** What plan-overlap.mjs takes from the sources: one import, so that all see the same classes. */
export { VlmExecutor } from "../src/index.ts";
export { PolicyRows } from "../src/selection/policy-rows.ts";
export { PlanDifference } from "../src/prefetch/plan-difference.ts";
export { PlanExcerpt } from "../src/prefetch/plan-excerpt.ts";
export { PlanWorkspace } from "../src/prefetch/plan-workspace.ts";
