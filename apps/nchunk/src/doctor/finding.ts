/** `ok`: as good as it gets here. `warn`: something is missing, and it costs. `fail`: the main job cannot run. */
export type Status = "ok" | "warn" | "fail";

/** One thing that `nchunk doctor` looked at. */
export interface Finding {
  /** Stable name for programs. */
  readonly id: string;
  /** Short name for people. */
  readonly title: string;
  readonly status: Status;
  /** What was found. */
  readonly value: string;
  /** What the missing thing costs, in plain words, and where a figure comes from if there is one. */
  readonly cost?: string;
  /** What to do about it. */
  readonly remedy?: string;
}

export interface Diagnosis {
  /** Whether the main job can run: nothing fails. */
  readonly ok: boolean;
  /** The folder that was looked at. */
  readonly path: string;
  readonly findings: readonly Finding[];
}

type Named = Pick<Finding, "id" | "title">;

export const ok = (named: Named, value: string): Finding => ({ ...named, status: "ok", value });

export const warn = (named: Named, value: string, cost: string, remedy?: string): Finding => ({
  ...named,
  status: "warn",
  value,
  cost,
  ...(remedy === undefined ? {} : { remedy }),
});

export const fail = (named: Named, value: string, cost: string, remedy: string): Finding => ({
  ...named,
  status: "fail",
  value,
  cost,
  remedy,
});
