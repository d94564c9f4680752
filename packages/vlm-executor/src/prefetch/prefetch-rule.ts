/** Weight of the newest observation in a running mean. */
const NEWEST = 1 / 16;
/** Observations before a running mean decides anything. */
const FEW = 8;
/** Spans of each kind that are compared, and how many there must be. */
const SPANS = 31;
const FEW_SPANS = 15;
/** Below this share a gain is noise, and not worth the drive's time. */
const LEAST_GAIN = 0.02;
/** How often what does not seem right is tried, so that a change is noticed. */
const TRY_SHARE = 1 / 16;

/** What to do before the next matrix's plan is known. */
export type PrefetchAction =
  /** Foretell and read. */
  | "read"
  /** Foretell only, to see how well that would have gone. */
  | "watch"
  | "nothing";

/**
 * What reading ahead is expected to gain, ns. With `x` the modelled read time of the rows foretold, `u` the share of it that reads of
 * plans have been spared so far (their modelled time without less that with), and `g` the time in which the drive has
 * nothing to do before the plan is known:
 *
 *     gain = [u x - max(0, x - g)] - (1 - u) x
 *
 * The first part is what reading ahead hides, less what it holds up; the second what it wastes. The drive's time
 * is not free even when idle: reads take memory bandwidth from the arithmetic, and others may want the drive.
 */
export function expectedGainNs(readNs: number, useful: number, idleNs: number): number {
  return useful * readNs - Math.max(0, readNs - idleNs) - (1 - useful) * readNs;
}

/**
 * Whether to read ahead for one kind of matrix in one phase. Nothing is read before `FEW` plans were foretold and compared;
 * then only while the expected gain is positive; and in the long run only while it shows: spans of time with reading ahead
 * are compared with spans without, which are taken by turns at random, the losing way in one of 16.
 */
export class PrefetchRule {
  private useful = 0;
  private foretold = 0;
  private idleNs = 0;
  private idles = 0;
  private readonly withReads = new Spans();
  private readonly without = new Spans();
  /** Of the generator of turns; the same in every process. */
  private random = 1;

  /** Modelled read time that fits before the plan is known, ns; infinite before anything was measured. */
  get limitNs(): number {
    return this.idles < FEW ? Infinity : this.idleNs;
  }

  decide(): PrefetchAction {
    if (this.foretold < FEW || this.idles < FEW) return "watch";
    // What is foretold fits the idle time.
    if (expectedGainNs(this.idleNs, this.useful, this.idleNs) <= 0) {
      return this.chance(TRY_SHARE) ? "watch" : "nothing";
    }
    return this.chance(this.readShare()) ? "read" : "watch";
  }

  /**
   * How a plan was foretold.
   *
   * @param savedNs modelled read time of the plan, less that of what is missing of it
   * @param readNs modelled read time of what was foretold, above 0
   */
  observeForetold(savedNs: number, readNs: number): void {
    this.useful = runningMean(this.useful, savedNs / readNs, this.foretold++);
  }

  /** Time in which the drive had nothing to read before a plan was known, reading ahead aside. */
  observeIdle(idleNs: number): void {
    this.idleNs = runningMean(this.idleNs, idleNs, this.idles++);
  }

  /** Time from the decision to the end of the matrix's product, and whether rows were read ahead in it. */
  observeSpan(isWithReads: boolean, spanNs: number): void {
    (isWithReads ? this.withReads : this.without).add(spanNs);
  }

  private readShare(): number {
    if (this.withReads.count < FEW_SPANS || this.without.count < FEW_SPANS) return 0.5;
    const isGain = this.withReads.median < (1 - LEAST_GAIN) * this.without.median;
    return isGain ? 1 - TRY_SHARE : TRY_SHARE;
  }

  private chance(share: number): boolean {
    this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0;
    return this.random < share * 2 ** 32;
  }
}

/** The last few spans of time. */
class Spans {
  /** Spans seen so far. */
  count = 0;
  private readonly recent = new Float64Array(SPANS);
  private readonly sorted = new Float64Array(SPANS);
  private isSorted = false;

  add(ns: number): void {
    this.recent[this.count++ % SPANS] = ns;
    this.isSorted = false;
  }

  get median(): number {
    const { sorted, recent } = this;
    const length = Math.min(SPANS, this.count);
    if (!this.isSorted) {
      // Places not taken yet come last.
      sorted.set(recent);
      sorted.fill(Infinity, length);
      sorted.sort();
      this.isSorted = true;
    }
    return sorted[length >> 1];
  }
}

/** A plain mean of the first few, so that the very first does not weigh more than others. */
function runningMean(mean: number, value: number, before: number): number {
  return mean + (value - mean) * Math.max(NEWEST, 1 / (before + 1));
}
