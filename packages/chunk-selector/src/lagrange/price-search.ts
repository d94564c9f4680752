import type { Quantity } from "./crossover.js";
import type { PricedPass } from "./priced-pass.js";
import type { Problem } from "./problem.js";
import { planAtPrice } from "./plan-at-price.js";
import { RunList } from "./run-list.js";
import { settleEnds } from "./settle.js";

/** Passes of one search; a warm one takes two or three. */
const MAX_PASSES = 24;

/** A bracket is narrow enough when the line between its plans is this close to the optimum, relative to the amount. */
const GAP_TOLERANCE = 0.002;

/** For rows, which a price does not bound: when the ends differ by this share of the rows wanted. */
const ROWS_TOLERANCE = 0.1;

/** A plan of this share of the rows wanted, or more, is a plan of so many: what is missing is added to its runs. */
const CLOSE_ROWS = 0.97;

/** Passes after which steps no longer guess but test whether there is any plan between the two. */
const GUESSES = 6;

/** Values closer than this, relative, are one. */
const ROUNDING = 1e-9;

/** First guess without a warm start: relative to the price at which reading everything breaks even. */
const COLD_PRICE = 0.5;

/** Between reading everything and nothing lie at most so many powers of e on either side of that price. */
const LOG_PRICE_RANGE = 25;

/** Where a search ended, for the next one of its kind to start from. */
export interface WarmStart {
  /** Importance per ns; 0 before the first search. */
  pricePerNs: number;
  /** How the logarithm of the odds grows with that of the price. */
  slope: number;
}

/** What the search aims at: the plan with this much of a quantity. */
export interface Aim {
  quantity: Quantity;
  amount: number;
}

/** One end of the bracket: a price and the plan that is optimal there. */
class PricedPlan {
  plan: RunList;
  /** 0 or Infinity where no price is low or high enough: the plan is then every row, or none. */
  price = 0;
  /** Of the plan by the grid, before its ends were settled: latency, ns, and importance. */
  gridNs = 0;
  importance = 0;
  /** Logarithm of the odds `(most - amount) / amount`. */
  odds = 0;

  constructor(maxRows: number) {
    this.plan = new RunList(maxRows);
  }

  get isReal(): boolean {
    return this.price > 0 && this.price < Infinity;
  }

  /** What no plan of this importance can undercut: else it would be worth more at this price than the optimum. */
  boundNs(importance: number): number {
    if (!this.isReal) return 0;
    return this.gridNs - (this.importance - importance) / this.price;
  }
}

/**
 * Finds two prices whose optimal plans enclose an aim: `generous` has at least as much as wanted (more, for a budget), `frugal`
 * less (no more). All quantities fall with the price.
 *
 * The odds `(most - amount) / amount` vary about like a power of the price, so the search interpolates their logarithms,
 * starts where the last one ended, and takes as its first step what the last slope says, and a little more to get past
 * the aim. It stops when the line between the two plans is close to the bound that weak duality gives. Where that
 * takes long it tries the price at which the two are worth the same: if no plan is worth more there, none lies between.
 */
export class PriceSearch {
  /** Passes of the last search. */
  passes = 0;
  /** Whether `frugal` alone is close enough to the aim; `generous` is not to be used then. */
  isClose = false;
  #generous: PricedPlan;
  #frugal: PricedPlan;
  #spare: PricedPlan;

  constructor(
    private readonly pass: PricedPass,
    maxRows: number,
  ) {
    this.#generous = new PricedPlan(maxRows);
    this.#frugal = new PricedPlan(maxRows);
    this.#spare = new PricedPlan(maxRows);
  }

  get generous(): RunList {
    return this.#generous.plan;
  }

  get frugal(): RunList {
    return this.#frugal.plan;
  }

  /**
   * @param problem of some importance.
   * @param aim of an amount above 0 and below what all rows have.
   * @param warm read and, where the search succeeds, updated.
   */
  run(problem: Problem, aim: Readonly<Aim>, warm: WarmStart): void {
    const most = amountOfAll(problem, aim.quantity);
    const centre = problem.total / problem.costs.of(problem.rows);
    // For rows the middle of what is close, so that the next plan is close too.
    const share = aim.quantity === "selectedRows" ? 0.5 * (1 + CLOSE_ROWS) : 1;
    const wanted = logOdds(share * aim.amount, most);
    this.#generous.price = 0;
    this.#frugal.price = Infinity;
    this.#frugal.plan.clear();
    let width = Infinity;
    let price = startPrice(warm, centre);
    for (this.passes = 1; this.passes < MAX_PASSES; this.passes++) {
      const tried = this.#try(problem, aim, price, most);
      this.isClose = isClose(aim, this.#frugal.plan.selectedRows);
      if (this.isClose) break;
      if (this.#generous.isReal && this.#frugal.isReal) {
        if (this.#isNarrow(aim)) break;
        const gap = Math.log(this.#frugal.price / this.#generous.price);
        if (this.passes > GUESSES) {
          price = this.#tiePrice();
          if (!(price > this.#generous.price && price < this.#frugal.price)) break;
          if (this.#isHullEdge(problem, aim, price, most)) break;
          this.passes++;
        }
        price = this.#between(wanted, gap, gap <= 0.5 * width);
        width = gap;
      } else {
        const past = (0.05 * 4 ** (this.passes - 1)) / warm.slope;
        const step = (1.1 * (wanted - tried.odds)) / warm.slope;
        price *= Math.exp(limit(step + (step > 0 ? past : -past), 8));
        if (Math.abs(Math.log(price / centre)) > LOG_PRICE_RANGE) break;
      }
    }
    this.#finish(problem, warm, wanted);
  }

  /** No plan that reaches `importance` is faster than this by the grid, ns. Weak duality at the ends' prices. */
  boundNs(importance: number): number {
    return Math.max(0, this.#generous.boundNs(importance), this.#frugal.boundNs(importance));
  }

  #try(problem: Problem, aim: Readonly<Aim>, price: number, most: number): PricedPlan {
    const tried = this.#spare;
    const { plan } = tried;
    tried.price = price;
    tried.gridNs = planAtPrice(problem, this.pass, price, plan);
    tried.importance = plan.importance;
    if (!problem.grid.isExact) settleEnds(problem, price, plan);
    const amount = plan[aim.quantity];
    tried.odds = logOdds(amount, most);
    if (isGenerous(aim, amount)) {
      this.#spare = this.#generous;
      this.#generous = tried;
    } else {
      this.#spare = this.#frugal;
      this.#frugal = tried;
    }
    return tried;
  }

  /** Where the aim would lie if the odds were a power of the price; where that goes slowly, the middle. */
  #between(wanted: number, gap: number, isFast: boolean): number {
    const generous = this.#generous;
    const share = (wanted - generous.odds) / (this.#frugal.odds - generous.odds);
    const step = isFast ? Math.min(0.95, Math.max(0.05, share)) : 0.5;
    return generous.price * Math.exp(step * gap);
  }

  /** The price at which both ends are worth the same. */
  #tiePrice(): number {
    const generous = this.#generous;
    const frugal = this.#frugal;
    return (generous.importance - frugal.importance) / (generous.gridNs - frugal.gridNs);
  }

  /** Tries the tie's price; true when no plan is worth more there than both ends. */
  #isHullEdge(problem: Problem, aim: Readonly<Aim>, price: number, most: number): boolean {
    const tie = this.#generous.importance - price * this.#generous.gridNs;
    this.#try(problem, aim, price, most);
    return this.pass.value <= tie + ROUNDING * Math.abs(tie);
  }

  #isNarrow({ quantity, amount }: Readonly<Aim>): boolean {
    const generous = this.#generous;
    const frugal = this.#frugal;
    if (frugal.price <= generous.price * (1 + ROUNDING)) return true;
    const more = generous.plan[quantity] - frugal.plan[quantity];
    if (quantity === "selectedRows") return more <= Math.max(1, ROWS_TOLERANCE * amount);
    // The plan that would lie on the line between the two, were there one, against the best that can be.
    const share = (amount - frugal.plan[quantity]) / more;
    const lineNs = frugal.gridNs + share * (generous.gridNs - frugal.gridNs);
    const line = frugal.importance + share * (generous.importance - frugal.importance);
    return lineNs <= this.boundNs(line) + GAP_TOLERANCE * lineNs;
  }

  #finish(problem: Problem, warm: WarmStart, wanted: number): void {
    const generous = this.#generous;
    const frugal = this.#frugal;
    if (this.isClose && !generous.isReal) {
      warm.pricePerNs = frugal.price * Math.exp((wanted - frugal.odds) / warm.slope);
      return;
    }
    if (!generous.isReal) {
      generous.plan.clear();
      generous.plan.append(0, problem.rows);
      generous.plan.measure(problem);
    }
    if (!frugal.isReal) frugal.plan.clear();
    if (!generous.isReal || !frugal.isReal) return;
    const gap = Math.log(frugal.price / generous.price);
    const more = frugal.odds - generous.odds;
    if (!(gap > 0 && more > 0)) {
      warm.pricePerNs = generous.price;
      return;
    }
    warm.slope = Math.min(64, Math.max(0.2, more / gap));
    const share = Math.min(1, Math.max(0, (wanted - generous.odds) / more));
    warm.pricePerNs = generous.price * Math.exp(share * gap);
  }
}

function startPrice(warm: WarmStart, centre: number): number {
  const price = warm.pricePerNs;
  const isUsable = price > 0 && Math.abs(Math.log(price / centre)) < LOG_PRICE_RANGE;
  return isUsable ? price : COLD_PRICE * centre;
}

/** Enough importance, or more latency or rows than wanted. */
function isGenerous({ quantity, amount }: Readonly<Aim>, got: number): boolean {
  return quantity === "importance" ? got >= amount : got > amount;
}

function isClose({ quantity, amount }: Readonly<Aim>, frugalRows: number): boolean {
  return quantity === "selectedRows" && frugalRows >= CLOSE_ROWS * amount;
}

/** What all rows together have of a quantity. */
export function amountOfAll({ rows, total, costs }: Problem, quantity: Quantity): number {
  if (quantity === "importance") return total;
  return quantity === "latencyNs" ? costs.of(rows) : rows;
}

/** `log((most - amount) / amount)`, finite also for all and nothing. Rises with the price. */
function logOdds(amount: number, most: number): number {
  const least = 1e-9 * most;
  return Math.log(Math.max(most - amount, least) / Math.max(amount, least));
}

function limit(value: number, most: number): number {
  return Math.min(most, Math.max(-most, value));
}
