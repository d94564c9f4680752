import { Crossover, type Quantity } from "./crossover.js";
import { FEW_RUNS, FewRuns } from "./few-runs.js";
import { Growth } from "./grow.js";
import { planAtPrice } from "./plan-at-price.js";
import { amountOfAll, PriceSearch, type Aim } from "./price-search.js";
import { PricedPass } from "./priced-pass.js";
import type { Problem } from "./problem.js";
import { RunList } from "./run-list.js";
import { settleEnds } from "./settle.js";
import { trimToImportance } from "./trim.js";

/** Importances that differ by less than this, relative, are equal: sums in another order differ by as much. */
export const ROUNDING = 1e-12;

/** Relative to the price at which reading everything breaks even: below it, price does not matter. */
const LEAST_PRICE_SHARE = 1e-12;

/** A plan this close to the bound, relative, is not worth a local search. */
const CLOSE_ENOUGH = 1e-3;

/** The question that a selection answers. */
export type Question =
  /** The plan that maximises `sum(v) - amount * L`; `amount` in importance per ns. */
  | "price"
  /** Least latency for an importance, most importance for a latency (ns), or the efficient plan of so many rows. */
  | Quantity;

/** How far an answer is improved where no price leads to the optimum. */
export type Effort = "quick" | "thorough";

/**
 * Chooses chunks by one price for latency.
 *
 * At a price, one pass of dynamic programming is optimal (`PricedPass`). Each budget or target has a price whose optimal
 * plans lie on either side of it (`PriceSearch`); what lies between those two is filled in by components
 * (`Crossover`), and the rest, which no price reaches, by local steps: ends of runs are trimmed or grown, plans of a few
 * runs are searched (`FewRuns`). Every budget and target is kept; how far the plan can be from the optimum is known.
 */
export class LagrangeSolver {
  /** Of the last question. */
  readonly plan: RunList;
  /** Price near which the last plan is optimal; 0 for every row, Infinity for none. */
  pricePerNs = 0;
  /** No plan of at least the importance of the last plan is faster than this, ns; 0 where nothing is known. */
  lowerBoundNs = 0;
  /** Passes over the rows that the last question took. */
  passes = 0;
  readonly #pass: PricedPass;
  readonly #search: PriceSearch;
  readonly #crossover: Crossover;
  readonly #fewRuns: FewRuns;
  readonly #growth: Growth;
  readonly #aim: Aim = { quantity: "importance", amount: 0 };
  readonly #limits = { latencyNs: 0, selectedRows: 0 };

  constructor(maxRows: number) {
    this.plan = new RunList(maxRows);
    this.#pass = new PricedPass(maxRows);
    this.#search = new PriceSearch(this.#pass, maxRows);
    this.#crossover = new Crossover(maxRows);
    this.#fewRuns = new FewRuns(maxRows);
    this.#growth = new Growth(maxRows);
  }

  /**
   * Leaves the answer in `plan` and what is known about it in the other fields.
   *
   * @param problem loaded.
   * @param amount of the question, finite and at least 0; an importance at most the sum of all.
   */
  solve(problem: Problem, question: Question, amount: number, effort: Effort): void {
    this.passes = 0;
    this.lowerBoundNs = 0;
    if (problem.total === 0) this.#takeNothing();
    else if (question === "price") this.#solvePrice(problem, amount);
    else if (amount === 0) this.#takeNothing();
    else if (question !== "importance" && amount >= amountOfAll(problem, question)) {
      this.#takeAll(problem);
    } else this.#solveAim(problem, question, amount, effort);
  }

  #takeNothing(): void {
    this.plan.clear();
    this.pricePerNs = Infinity;
  }

  #takeAll(problem: Problem): void {
    this.plan.clear();
    this.plan.append(0, problem.rows);
    this.plan.measure(problem);
    this.pricePerNs = 0;
  }

  #solvePrice(problem: Problem, pricePerNs: number): void {
    // A price of nothing does not say how to read what is free: the cheapest way to every row that counts does.
    const least = LEAST_PRICE_SHARE * (problem.total / problem.costs.of(problem.rows));
    const price = Math.max(pricePerNs, least);
    if (price === 0) {
      this.#takeNothing();
      return;
    }
    planAtPrice(problem, this.#pass, price, this.plan);
    this.passes = 1;
    this.pricePerNs = pricePerNs;
    // An optimum of a price is an optimum for its own importance.
    if (problem.grid.isExact) this.lowerBoundNs = this.plan.latencyNs;
    else settleEnds(problem, price, this.plan);
  }

  #solveAim(problem: Problem, quantity: Quantity, amount: number, effort: Effort): void {
    const warm = problem.warm[quantity];
    const search = this.#search;
    const aim = this.#aim;
    aim.quantity = quantity;
    aim.amount = quantity === "selectedRows" ? amount : amount * (1 - ROUNDING);
    search.run(problem, aim, warm);
    this.passes = search.passes;
    this.pricePerNs = warm.pricePerNs;
    const { frugal, generous } = search;
    const isTarget = quantity === "importance";
    const room = aim.amount - frugal[quantity];
    if (search.isClose) this.plan.copyFrom(frugal);
    else this.#crossover.fill(problem, frugal, generous, quantity, room, isTarget, this.plan);
    if (isTarget) this.#reachTarget(problem, aim.amount, effort);
    else this.#spendBudget(problem, quantity, amount);
  }

  #reachTarget(problem: Problem, target: number, effort: Effort): void {
    const { plan } = this;
    const { frugal, generous } = this.#search;
    // Sums in another order may fall short by their rounding.
    if (plan.importance < target) plan.copyFrom(generous);
    trimToImportance(problem, plan, target);
    if (problem.grid.isExact) this.lowerBoundNs = this.#search.boundNs(target);
    const closeNs = this.lowerBoundNs * (1 + CLOSE_ENOUGH);
    if (plan.count > FEW_RUNS || plan.latencyNs <= closeNs) return;
    if (effort === "quick") this.#fewRuns.moveRuns(problem, plan, target);
    else this.#fewRuns.improve(problem, plan, frugal, generous, target);
  }

  #spendBudget(problem: Problem, quantity: "latencyNs" | "selectedRows", amount: number): void {
    const { plan } = this;
    if (plan[quantity] > amount) plan.copyFrom(this.#search.frugal);
    const isLatency = quantity === "latencyNs";
    this.#limits.latencyNs = isLatency ? amount : Infinity;
    this.#limits.selectedRows = isLatency ? problem.rows : amount;
    this.#growth.fill(problem, plan, this.#limits);
  }
}
