import { ChunkSelectorError } from "./errors.js";

/** Largest change of the price in one step: a factor of e^1.5, about 4.5. */
const MAX_LOG_STEP = 1.5;
/** Share of a large and of a small error that one step corrects; small errors are mostly noise. */
const FAR_GAIN = 0.8;
const NEAR_GAIN = 0.4;
/** Below this, in natural logarithms (about 10 %), an error is small. */
const NEAR_LOG_ERROR = 0.1;
/** Within this, in natural logarithms, `reading / target - 1` is the error, so that the readings' mean is on target. */
const LINEAR_LOG_ERROR = 1;
/** A reading of nothing (no rows, no latency) counts as this far below the target. */
const MAX_LOG_ERROR = Math.log(1e3);
/** How strongly a reading can answer to a price, `|d log reading / d log price|`: believed between these. */
const MIN_ELASTICITY = 0.2;
const MAX_ELASTICITY = 4;
const FIRST_ELASTICITY = 1;
/** Price changes below this tell more about noise than about the elasticity. */
const MIN_INFORMATIVE_LOG_STEP = 0.05;
/** Default bounds of the price, as factors of the first price. */
const DEFAULT_RANGE = 1e9;

/** What a {@link PriceController} steers. */
export interface PriceControllerOptions {
  /** Reading to reach, finite and above 0. */
  readonly target: number;
  /** What a higher price does to the reading: latency falls, lost quality rises. */
  readonly response: "falling" | "rising";
  /** First price, finite and above 0. */
  readonly initialPrice: number;
  /** Bounds of the price; default: a factor of 10^9 below and above the first. */
  readonly minPrice?: number;
  readonly maxPrice?: number;
}

/** Whether the last selection kept every row or none; then one direction of the price has no effect any more. */
export type SelectionLimit = "all" | "none";

/**
 * Finds, step by step, the price at which a reading (modelled latency, estimated error) meets its target.
 *
 * Integral control of `log price`: `log p += g * (reading / target - 1) / e` (far away, with the logarithm of the ratio
 * instead), with the elasticity `e` of the reading estimated by secants over the steps, so that convergence is close
 * to Newton's on any power law. Robust: a step
 * changes the price by a factor of at most 4.5, errors below 10 % are corrected at half the gain (noise), the price
 * stays within its bounds, and it holds still when a selection is at its limit and the correction would push on
 * (anti-windup): a target that cannot be reached leaves no debt for the one after it.
 *
 * Where readings are noisy, or jump at a price (a whole matrix at once), the price settles around the right one, and the
 * readings' mean, not each of them, meets the target.
 *
 * Pure arithmetic; O(1) and without allocation per step.
 */
export class PriceController {
  readonly #sign: 1 | -1;
  readonly #minLogPrice: number;
  readonly #maxLogPrice: number;
  #logTarget: number;
  #logPrice: number;
  #elasticity = FIRST_ELASTICITY;
  #lastLogReading = NaN;
  #lastLogStep = 0;

  /** @throws ChunkSelectorError `INVALID_REQUEST` naming the option. */
  constructor(options: PriceControllerOptions) {
    const { initialPrice } = options;
    requirePositive(initialPrice, "initialPrice");
    const minPrice = options.minPrice ?? initialPrice / DEFAULT_RANGE;
    const maxPrice = options.maxPrice ?? initialPrice * DEFAULT_RANGE;
    requirePositive(minPrice, "minPrice");
    requirePositive(maxPrice, "maxPrice");
    if (minPrice > initialPrice || maxPrice < initialPrice) {
      throw new ChunkSelectorError("INVALID_REQUEST", {
        path: "initialPrice",
        expected: `between minPrice (${minPrice}) and maxPrice (${maxPrice})`,
        got: String(initialPrice),
      });
    }
    this.#sign = options.response === "falling" ? 1 : -1;
    this.#minLogPrice = Math.log(minPrice);
    this.#maxLogPrice = Math.log(maxPrice);
    this.#logPrice = Math.log(initialPrice);
    this.#logTarget = logOfTarget(options.target);
  }

  /** The price for the next step. */
  get price(): number {
    return Math.exp(this.#logPrice);
  }

  get target(): number {
    return Math.exp(this.#logTarget);
  }

  /** Another target from now on; what was learned about the elasticity stays. */
  set target(target: number) {
    this.#logTarget = logOfTarget(target);
  }

  /**
   * What came of the step that ran at `price`.
   *
   * @param reading In the target's unit. 0 counts as far below the target; NaN and infinities are ignored.
   * @param limit Given when the step kept all or none of its rows.
   */
  observe(reading: number, limit?: SelectionLimit): void {
    if (!Number.isFinite(reading) || reading < 0) return;
    const logError = clamp(Math.log(reading) - this.#logTarget, -MAX_LOG_ERROR, MAX_LOG_ERROR);
    const logReading = this.#logTarget + logError;
    this.#learn(logReading, limit);
    this.#lastLogReading = logReading;
    const isNear = Math.abs(logError) <= LINEAR_LOG_ERROR;
    const error = isNear ? Math.exp(logError) - 1 : logError;
    const gain = Math.abs(logError) > NEAR_LOG_ERROR ? FAR_GAIN : NEAR_GAIN;
    const wanted = (this.#sign * gain * error) / this.#elasticity;
    const isWindup = (limit === "all" && wanted < 0) || (limit === "none" && wanted > 0);
    const logStep = isWindup ? 0 : clamp(wanted, -MAX_LOG_STEP, MAX_LOG_STEP);
    const next = clamp(this.#logPrice + logStep, this.#minLogPrice, this.#maxLogPrice);
    this.#lastLogStep = next - this.#logPrice;
    this.#logPrice = next;
  }

  /** Moves the elasticity half way to the secant over the last step. */
  #learn(logReading: number, limit: SelectionLimit | undefined): void {
    if (limit !== undefined || !(Math.abs(this.#lastLogStep) > MIN_INFORMATIVE_LOG_STEP)) return;
    const change = logReading - this.#lastLogReading;
    const secant = (-this.#sign * change) / this.#lastLogStep;
    if (!(secant > 0)) return;
    const elasticity = clamp(secant, MIN_ELASTICITY, MAX_ELASTICITY);
    this.#elasticity += (elasticity - this.#elasticity) / 2;
  }
}

function logOfTarget(target: number): number {
  requirePositive(target, "target");
  return Math.log(target);
}

function requirePositive(value: number, path: string): void {
  if (Number.isFinite(value) && value > 0) return;
  throw new ChunkSelectorError("INVALID_REQUEST", {
    path,
    expected: "a finite number above 0",
    got: String(value),
  });
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
