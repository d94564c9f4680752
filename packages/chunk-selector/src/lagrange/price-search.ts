import type { Quantity } from "./crossover.js";
import type { PricedPass } from "./priced-pass.js";
import type { Problem } from "./problem.js";
import { RunList } from "./run-list.js";

/** Passes of one search; a warm one takes two or three. */
const MAX_PASSES = 24;

/** A bracket is narrow enough when the plans between its ends are this close to the optimum, relative to it. */
const GAP_TOLERANCE = 0.002;

/** For rows, which have no bound: when the ends differ by this share of the rows wanted. */
const ROWS_TOLERANCE = 0.1;

/** Prices closer than this, relative, are one. */
const PRICE_TOLERANCE = 1e-7;

/** First guess without a warm start: relative to the price at which reading everything breaks even. */
const COLD_PRICE = 0.5;

/** Between reading everything and nothing lie at most so many powers of e on either side of that price. */
const LOG_PRICE_RANGE = 60;

/** Where a search ended, for the next one of its kind to start from. */
export interface WarmStart {
  /** Importance per ns; 0 before the first search. */
  pricePerNs: number;
  /** How the logarithm of the odds grows with that of the price. */
  slope: number;
}

/** What the search aims at: the plan with this much of a quantity. */
export interface Aim {
  readonly quantity: Quantity;
  readonly amount: number;
}

/**
 * Finds two prices whose optimal plans enclose an aim: `generous` has at least as much as wanted (more for a budget), `frugal`
 * less (no more). All quantities fall with the price.
 *
 * The odds `(most - amount) / amount` vary about like a power of the price, so that the search interpolates their logarithms,
 * starts where the last one ended, and takes as its first step what the last slope says, and a little more to get
 * past the aim. It stops when the line between the two plans is close to the bound that the prices give (`boundNs`).
 */
export class PriceSearch {
  /** Optimal at `generousPrice`; every row when no price is low enough. */
  generous: RunList;
  /** Optimal at `frugalPrice`; no row when no price is high enough. */
  frugal: RunList;
  generousPrice = 0;
  frugalPrice = Infinity;
  /** Passes of the last search. */
  passes = 0;
  /**
   * For an importance: no plan that reaches it is faster than this, ns. For a latency: no plan within it has more
   * importance than this. Not used for rows.
   */
  bound = 0;
  #spare: RunList;

  constructor(
    private readonly pass: PricedPass,
    maxRows: number,
  ) {
    this.generous = new RunList(maxRows);
    this.frugal = new RunList(maxRows);
    this.#spare = new RunList(maxRows);
  }

  /**
   * @param problem of some importance.
   * @param aim of an amount above 0 and below what all rows have.
   * @param warm read and, where the search succeeds, updated.
   */
  run(problem: Problem, aim: Aim, warm: WarmStart): void {
    const most = amountOfAll(problem, aim.quantity);
    const centre = problem.total / problem.costs.of(problem.rows);
    const wanted = logOdds(aim.amount, most);
    this.bound = aim.quantity === "latencyNs" ? Infinity : 0;
    this.generousPrice = 0;
    this.frugalPrice = Infinity;
    let generousOdds = -Infinity;
    let frugalOdds = Infinity;
    let width = Infinity;
    let price = startPrice(warm, centre);
    for (this.passes = 1; this.passes <= MAX_PASSES; this.passes++) {
      const plan = this.#spare;
      this.pass.run(problem, price, plan);
      this.#tighten(aim, price, this.pass.value);
      const amount = plan[aim.quantity];
      const odds = logOdds(amount, most);
      if (isGenerous(aim, amount)) {
        this.#spare = this.generous;
        this.generous = plan;
        this.generousPrice = price;
        generousOdds = odds;
      } else {
        this.#spare = this.frugal;
        this.frugal = plan;
        this.frugalPrice = price;
        frugalOdds = odds;
      }
      if (this.generousPrice > 0 && this.frugalPrice < Infinity) {
        if (this.#isNarrow(aim)) break;
        const gap = Math.log(this.frugalPrice / this.generousPrice);
        const share = (wanted - generousOdds) / (frugalOdds - generousOdds);
        // Where the last step did not halve the bracket, this one does.
        const step = gap <= 0.5 * width ? Math.min(0.95, Math.max(0.05, share)) : 0.5;
        width = gap;
        price = this.generousPrice * Math.exp(step * gap);
      } else {
        const past = 0.03 * 4 ** (this.passes - 1);
        const step = (wanted - odds) / warm.slope;
        price *= Math.exp(limit(step > 0 ? 1.1 * step + past : 1.1 * step - past, 8));
        if (Math.abs(Math.log(price / centre)) > LOG_PRICE_RANGE) break;
      }
    }
    this.#finish(problem, warm, wanted, generousOdds, frugalOdds);
  }

  /** Weak duality: `value(price)` bounds `sum(v) - price * L` of every plan. */
  #tighten(aim: Aim, price: number, value: number): void {
    if (aim.quantity === "importance") {
      this.bound = Math.max(this.bound, (aim.amount - value) / price);
    } else if (aim.quantity === "latencyNs") {
      this.bound = Math.min(this.bound, value + price * aim.amount);
    }
  }

  #isNarrow({ quantity, amount }: Aim): boolean {
    const { frugal, generous } = this;
    if (this.frugalPrice / this.generousPrice < 1 + PRICE_TOLERANCE) return true;
    const more = generous[quantity] - frugal[quantity];
    if (quantity === "selectedRows") return more <= Math.max(1, ROWS_TOLERANCE * amount);
    const share = (amount - frugal[quantity]) / more;
    if (quantity === "importance") {
      const lineNs = frugal.latencyNs + share * (generous.latencyNs - frugal.latencyNs);
      return lineNs <= this.bound * (1 + GAP_TOLERANCE);
    }
    const line = frugal.importance + share * (generous.importance - frugal.importance);
    return this.bound - line <= GAP_TOLERANCE * amount * this.generousPrice;
  }

  #finish(
    problem: Problem,
    warm: WarmStart,
    wanted: number,
    generousOdds: number,
    frugalOdds: number,
  ): void {
    if (this.generousPrice === 0) {
      this.generous.clear();
      this.generous.append(0, problem.rows);
      this.generous.measure(problem);
    }
    if (this.frugalPrice === Infinity) this.frugal.clear();
    if (this.generousPrice === 0 || this.frugalPrice === Infinity) return;
    const gap = Math.log(this.frugalPrice / this.generousPrice);
    const more = frugalOdds - generousOdds;
    if (!(gap > 0 && more > 0)) {
      warm.pricePerNs = this.generousPrice;
      return;
    }
    warm.slope = Math.min(8, Math.max(0.2, more / gap));
    const share = Math.min(1, Math.max(0, (wanted - generousOdds) / more));
    warm.pricePerNs = this.generousPrice * Math.exp(share * gap);
  }
}

function startPrice(warm: WarmStart, centre: number): number {
  const price = warm.pricePerNs;
  const isUsable = price > 0 && Math.abs(Math.log(price / centre)) < LOG_PRICE_RANGE;
  return isUsable ? price : COLD_PRICE * centre;
}

/** Enough importance, or more latency or rows than wanted. */
function isGenerous({ quantity, amount }: Aim, got: number): boolean {
  return quantity === "importance" ? got >= amount : got > amount;
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
