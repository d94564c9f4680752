import type { ChunkPlan } from "@neuron-chunking/latency-model";
import { ChunkSelectorError, requireInteger, requireLength } from "../errors.js";
import { ImportanceKeys } from "../importance-keys.js";
import { PlanBuilder } from "../plan-builder.js";
import type { LagrangeSelector, LagrangeSolution, SelectionRequest } from "../policy.js";
import { requireRows, requireTable } from "../requests.js";
import { TopkImportance } from "../topk-importance.js";
import { TopkSelection } from "../topk.js";
import { LagrangeSolver, ROUNDING, type Effort, type Question } from "./lagrange-solver.js";
import type { Closeness } from "./pass-grid.js";
import { Problem } from "./problem.js";
import type { RunCosts } from "./run-costs.js";
import { ShapeCache } from "./shape-cache.js";

/** A target may pass the sum of all importances by this share: the caller may have added in another order. */
const TARGET_SLACK = 1e-9;

/** The fields of a request that ask `lagrange` something, of which exactly one is given. */
const QUESTIONS = [
  "pricePerNs",
  "latencyBudgetNs",
  "importanceTarget",
  "matchTopkRows",
  "budgetRows",
] as const;

type QuestionField = (typeof QUESTIONS)[number];

const ASKS: Readonly<Record<QuestionField, Question>> = {
  pricePerNs: "price",
  latencyBudgetNs: "latencyNs",
  importanceTarget: "importance",
  matchTopkRows: "importance",
  budgetRows: "selectedRows",
};

/** The policy `lagrange`; how it works is told at {@link LagrangeSolver}. */
export class PricedSelector implements LagrangeSelector {
  readonly policy = "lagrange";
  readonly solution: { -readonly [Field in keyof LagrangeSolution]: LagrangeSolution[Field] } = {
    latencyNs: 0,
    importance: 0,
    rows: 0,
    pricePerNs: Infinity,
    lowerBoundNs: 0,
    passes: 0,
  };
  readonly #problem: Problem;
  readonly #solver: LagrangeSolver;
  readonly #keys: ImportanceKeys;
  readonly #largest: TopkImportance;
  readonly #topk: TopkSelection;
  readonly #plan: PlanBuilder;
  readonly #topkPlan: PlanBuilder;
  readonly #shapes = new ShapeCache();

  constructor(readonly maxRows: number) {
    this.#problem = new Problem(maxRows);
    this.#solver = new LagrangeSolver(maxRows);
    this.#keys = new ImportanceKeys(maxRows);
    this.#largest = new TopkImportance(this.#keys, maxRows);
    this.#topk = new TopkSelection(this.#keys, maxRows);
    this.#plan = new PlanBuilder(maxRows);
    this.#topkPlan = new PlanBuilder(maxRows);
  }

  select(request: SelectionRequest): ChunkPlan {
    const { importance, rows, rowBytes } = request;
    requireRows(request, this.maxRows);
    const field = requireQuestion(request);
    requireInteger(rowBytes, "rowBytes", 1);
    const table = requireTable(request);
    requireLength(importance.length, rows, "importance", "rows");
    const solver = this.#solver;
    const question = ASKS[field];
    const effort = requireEffort(request);
    const closeness = request.exactTable === true ? "exact" : closenessFor(question, effort);
    const shape = this.#shapes.get(rows, rowBytes, table, closeness);
    const isValid = this.#problem.load(importance, rows, shape);
    // Sorted bits are for top-k; they also say which importance is wrong.
    if (!isValid || question === "importance") this.#keys.load(importance, rows);
    const amount = this.#amount(request, field);
    if (question !== "price" && request.nearPricePerNs !== undefined) {
      shape.warm[question].pricePerNs = request.nearPricePerNs;
    }
    solver.solve(this.#problem, question, amount, effort);
    this.#report();
    if (question === "importance" && this.#topkIsFaster(rows, shape.costs, amount)) {
      return this.#topkPlan;
    }
    solver.plan.writeTo(this.#plan);
    return this.#plan;
  }

  #amount(request: SelectionRequest, field: QuestionField): number {
    const { total } = this.#problem;
    const amount = request[field] as number;
    if (field === "importanceTarget") return requireReachable(amount, total);
    if (field !== "matchTopkRows") return amount;
    this.#largest.ofCount(request.rows, Math.min(request.rows, amount));
    return Math.min(total, this.#largest.importance);
  }

  /** Fills `#topkPlan` with as few of the largest rows as reach the target; whether that beats the solver's plan. */
  #topkIsFaster(rows: number, costs: RunCosts, target: number): boolean {
    const { solution } = this;
    if (target === 0 || solution.latencyNs <= solution.lowerBoundNs * (1 + ROUNDING)) return false;
    this.#largest.reaching(rows, target);
    const { count, importance } = this.#largest;
    // So many rows are slower even in one run.
    if (count === 0 || costs.of(count) >= solution.latencyNs) return false;
    const plan = this.#topkPlan.clear();
    this.#topk.addLargest(rows, count, plan);
    let latencyNs = 0;
    for (let chunk = 0; chunk < plan.chunkCount; chunk++)
      latencyNs += costs.of(plan.lengths[chunk]);
    if (latencyNs >= solution.latencyNs) return false;
    solution.latencyNs = latencyNs;
    solution.importance = importance;
    solution.rows = count;
    return true;
  }

  #report(): void {
    const { plan, pricePerNs, lowerBoundNs, passes } = this.#solver;
    const { solution } = this;
    solution.latencyNs = plan.latencyNs;
    solution.importance = plan.importance;
    solution.rows = plan.selectedRows;
    solution.pricePerNs = pricePerNs;
    solution.lowerBoundNs = lowerBoundNs;
    solution.passes = passes;
  }
}

function closenessFor(question: Question, effort: Effort): Closeness {
  if (question === "price") return "rows";
  return question === "importance" && effort === "thorough" ? "thorough-cells" : "cells";
}

function requireQuestion(request: SelectionRequest): QuestionField {
  let asked: QuestionField | undefined;
  let count = 0;
  for (const field of QUESTIONS) {
    if (request[field] === undefined) continue;
    asked = field;
    count++;
  }
  if (asked === undefined || count > 1) throw questionError(request);
  const value = request[asked] as number;
  const isCount = asked === "budgetRows" || asked === "matchTopkRows";
  if (isCount) requireInteger(value, asked, 0);
  else requireAmount(value, asked);
  if (request.nearPricePerNs !== undefined) requireAmount(request.nearPricePerNs, "nearPricePerNs");
  return asked;
}

function requireEffort({ effort = "thorough" }: SelectionRequest): Effort {
  if (effort === "quick" || effort === "thorough") return effort;
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path: "effort",
    expected: '"quick" or "thorough"',
    got: JSON.stringify(effort),
  });
}

function requireAmount(value: number, path: string): void {
  if (value >= 0 && value < Infinity) return;
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path,
    expected: "a finite number of at least 0",
    got: String(value),
  });
}

function questionError(request: SelectionRequest): ChunkSelectorError {
  const given = QUESTIONS.filter((field) => request[field] !== undefined);
  return new ChunkSelectorError("INVALID_REQUEST", {
    path: "request",
    expected: `asked one question, exactly one of ${QUESTIONS.join(", ")}`,
    got: given.length === 0 ? "none" : given.join(" and "),
    remedy: "The lagrange policy needs to know what to keep within, or to reach.",
  });
}

function requireReachable(target: number, total: number): number {
  if (target <= total * (1 + TARGET_SLACK)) return Math.min(target, total);
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path: "importanceTarget",
    expected: `at most the importance of all rows (${total})`,
    got: String(target),
    remedy: "It is a sum of importances: multiply a share by the sum of them all.",
  });
}
