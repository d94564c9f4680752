import type { PolicyName } from "@neuron-chunking/chunk-selector";

/** Which stage of streaming inference a pass belongs to (PAPER.md, stages). */
export type Phase = "prefill" | "frames" | "decode";

/** What one stored matrix cost in one pass. Times are wall time in nanoseconds. */
export interface ProjectionTrace {
  readonly bundle: string;
  readonly layer: number;
  /** Rows multiplied, of `totalRows`. */
  readonly rows: number;
  /** Those of them that were in memory and not read (a budget's hot prefix). */
  readonly residentRows: number;
  readonly totalRows: number;
  readonly chunks: number;
  /** Bytes of the selected rows. */
  readonly bytesWanted: number;
  /** Bytes the device delivered: `bytesWanted` and what alignment adds. */
  readonly bytesRead: number;
  /** Bytes of rows that were read before it was known that they would be selected, and of these those that were. */
  readonly bytesAhead: number;
  readonly bytesAheadUsed: number;
  /** Latency the device profile predicts for the plan; 0 without a profile. */
  readonly estimatedReadNs: number;
  /** Time in which at least one read was under way. */
  readonly readNs: number;
  readonly selectNs: number;
  readonly computeNs: number;
  /** Time in which nothing was computed because bytes had not arrived yet. */
  readonly stallNs: number;
  /** Share of the input's total importance that the selected rows hold, 0 to 1. */
  readonly importanceKept: number;
  /** Policy `lagrange`: importance of the input that one ns of modelled latency had to earn. */
  readonly pricePerNs?: number;
  /** The same price in relative error of the layer's output per ns; with a calibration only. */
  readonly errorPerNs?: number;
}

/** One pass of a block of tokens through all decoder layers. */
export interface StepTrace {
  readonly phase: Phase;
  readonly policy: PolicyName;
  /** `exact`: every row of every matrix was used, whatever the policy, and no product rounded (`VlmExecutor.rounding`); else `lossy`. */
  readonly accuracy: "exact" | "lossy";
  /** The model's one price in this pass, relative error of a layer's output per ns, where one ruled it. */
  readonly pricePerNs?: number;
  /**
   * Mean over layers of the calibrated error of a layer's output, `sum(w * lost share) / layers`, with a
   * calibration only. An estimate: errors of several matrices are added up as if they did not cancel.
   */
  readonly estimatedError?: number;
  readonly tokens: number;
  /** Tokens in the cache before the pass. */
  readonly pastTokens: number;
  readonly wallNs: number;
  readonly projections: readonly ProjectionTrace[];
}

/** Sums over passes. */
export interface TraceTotals {
  steps: number;
  tokens: number;
  chunks: number;
  rows: number;
  bytesWanted: number;
  bytesRead: number;
  bytesAhead: number;
  bytesAheadUsed: number;
  estimatedReadNs: number;
  readNs: number;
  selectNs: number;
  computeNs: number;
  stallNs: number;
  wallNs: number;
  /** Sum over passes of their estimated errors; 0 without a calibration. */
  estimatedError: number;
}

function emptyTotals(): TraceTotals {
  return {
    steps: 0,
    tokens: 0,
    chunks: 0,
    rows: 0,
    bytesWanted: 0,
    bytesRead: 0,
    bytesAhead: 0,
    bytesAheadUsed: 0,
    estimatedReadNs: 0,
    readNs: 0,
    selectNs: 0,
    computeNs: 0,
    stallNs: 0,
    wallNs: 0,
    estimatedError: 0,
  };
}

const PROJECTION_SUMS = [
  "chunks",
  "rows",
  "bytesWanted",
  "bytesRead",
  "bytesAhead",
  "bytesAheadUsed",
  "estimatedReadNs",
  "readNs",
  "selectNs",
  "computeNs",
  "stallNs",
] as const;

/** Adds one pass to `totals`. */
function addStep(totals: TraceTotals, step: StepTrace): void {
  totals.steps += 1;
  totals.tokens += step.tokens;
  totals.wallNs += step.wallNs;
  totals.estimatedError += step.estimatedError ?? 0;
  for (const projection of step.projections) {
    for (const field of PROJECTION_SUMS) totals[field] += projection[field];
  }
}

/** Now, in nanoseconds of a monotonic clock. */
export function nowNs(): number {
  return performance.now() * 1e6;
}

/** Recent passes of one session, oldest first, and sums over all of them. */
export class TraceLog {
  readonly totals: Record<Phase, TraceTotals> = {
    prefill: emptyTotals(),
    frames: emptyTotals(),
    decode: emptyTotals(),
  };
  private readonly recent: StepTrace[] = [];

  /** @param capacity passes kept in detail; older ones remain in `totals` only */
  constructor(
    private readonly capacity: number,
    private readonly onStep?: (step: StepTrace) => void,
  ) {}

  get steps(): readonly StepTrace[] {
    return this.recent;
  }

  add(step: StepTrace): void {
    addStep(this.totals[step.phase], step);
    if (this.capacity > 0) {
      if (this.recent.length === this.capacity) this.recent.shift();
      this.recent.push(step);
    }
    this.onStep?.(step);
  }
}
