export type ProfilePhase =
  "probe-file" | "warm-up" | "queue" | "request-size" | "table" | "gaps" | "batches";

export interface ProfileProgress {
  /** What is being done. */
  readonly phase: ProfilePhase;
  /** Of the whole profile, 0 to 1; it never falls. */
  readonly fraction: number;
}

/** Shares of the time that each phase takes, about. */
const SHARES: Record<ProfilePhase, number> = {
  "probe-file": 0.1,
  "warm-up": 0.05,
  queue: 0.25,
  "request-size": 0.05,
  table: 0.4,
  gaps: 0.05,
  batches: 0.1,
};

/** Turns the fractions of phases into one of the whole. */
export class Progress {
  #fraction = 0;

  constructor(readonly onProgress: ((progress: ProfileProgress) => void) | undefined) {}

  /** What to call with the fraction of `phase` that is done. */
  of(phase: ProfilePhase): (fraction: number) => void {
    let before = 0;
    for (const [name, share] of Object.entries(SHARES)) {
      if (name === phase) break;
      before += share;
    }
    return (fraction) => {
      // A run that is measured again must not go backwards; the last step is the caller's to report.
      this.#fraction = Math.max(this.#fraction, Math.min(1, before + fraction * SHARES[phase]));
      this.onProgress?.({ phase, fraction: this.#fraction });
    };
  }
}
