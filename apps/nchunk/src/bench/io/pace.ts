import type { LatencyTable } from "@neuron-chunking/latency-model";
import type { MatrixShape } from "./shapes";

/** What each read takes on any disk, besides its bytes. */
const READ_NS = 300_000;
/** What each matrix takes besides its reads: drawing inputs, and several of them where they are small. */
const OVERHEAD_MS = 120;
/** Of the time left; the rest is for what nobody foresees. */
const USABLE_SHARE = 0.85;
/** The profile counts as much as measurements of this share of all matrices. */
const PRIOR_SHARE = 0.01;

/** Roughly what reading one input's plans takes, ns: half the rows one by one, and in long runs. */
export function roughReadNs(
  { rows, rowBytes }: Pick<MatrixShape, "rows" | "rowBytes">,
  table: LatencyTable,
  reads: { scattered: number; inRuns: number },
): number {
  const scatteredNs = 0.4 * rows * table.latencyNs(rowBytes) + READ_NS;
  const inRunsNs = 0.5 * rows * rowBytes * table.tailNsPerByte + READ_NS;
  return reads.scattered * scatteredNs + reads.inRuns * inRunsNs;
}

/**
 * Makes one round of all matrices fit the time on a disk too slow for it, by leaving out rows of those that are
 * still to come: no matrix is dropped, and which are cut is in the report.
 */
export class Pace {
  #left: number;
  #leftNs: number;
  readonly #priorNs: number;
  #roughNs = 0;
  #measuredNs = 0;

  /**
   * @param roughNs Of each matrix, by {@link roughReadNs}.
   * @param remainingMs Time that is left, by a clock.
   */
  constructor(
    roughNs: readonly number[],
    readonly remainingMs: () => number,
  ) {
    this.#left = roughNs.length;
    this.#leftNs = roughNs.reduce((sum, ns) => sum + ns, 0);
    this.#priorNs = PRIOR_SHARE * this.#leftNs;
  }

  /** The share of its rows that the next matrix may have, in (0, 1]. */
  share(): number {
    const scale = (this.#priorNs + this.#measuredNs) / (this.#priorNs + this.#roughNs);
    const usableMs = USABLE_SHARE * this.remainingMs() - OVERHEAD_MS * this.#left;
    return Math.min(1, Math.max(0, (usableMs * 1e6) / (scale * this.#leftNs)));
  }

  /**
   * @param roughNs Of the whole matrix, as given before.
   * @param share Of its rows that were read, more than 0.
   * @param measuredNs Of one input's plans.
   */
  done(roughNs: number, share: number, measuredNs: number): void {
    this.#left -= 1;
    this.#leftNs -= roughNs;
    this.#roughNs += roughNs;
    this.#measuredNs += measuredNs / share;
  }
}
