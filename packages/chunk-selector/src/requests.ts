import type { LatencyTable } from "@neuron-chunking/latency-model";
import { ChunkSelectorError, requireInteger } from "./errors.js";
import type { SelectionRequest } from "./policy.js";

/** @internal */
export function requireRows(request: SelectionRequest, maxRows: number): void {
  requireInteger(request.rows, "rows", 0);
  if (request.rows <= maxRows) return;
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path: "rows",
    expected: `at most the selector's maxRows (${maxRows})`,
    got: String(request.rows),
    remedy: "Create the selector with the largest number of rows of any projection.",
  });
}

/** @internal */
export function requireBudget(request: SelectionRequest): number {
  requireInteger(request.budgetRows, "budgetRows", 0, "This policy needs a row budget.");
  return request.budgetRows;
}

/** @internal */
export function requireThreshold(request: SelectionRequest): number {
  const { threshold } = request;
  if (typeof threshold === "number" && threshold >= 0 && Number.isFinite(threshold)) {
    return threshold;
  }
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path: "threshold",
    expected: "a finite number of at least 0",
    got: String(threshold),
    remedy: "The threshold policy needs the least importance to keep.",
  });
}

/** @internal */
export function requireTable(request: SelectionRequest): LatencyTable {
  if (request.table !== undefined) return request.table;
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path: "table",
    expected: "a LatencyTable",
    got: "nothing",
    remedy: "This policy weighs read times: profile the device, or use a simulated one.",
  });
}
