/** How fio is to drive the device: an engine, and how many reads it keeps in flight. */
export interface FioConfiguration {
  readonly engine: string;
  /** io_uring and libaio: reads in flight. Threads, of one read each, for psync. */
  readonly depth: number;
}

export const describeConfiguration = ({ engine, depth }: FioConfiguration): string =>
  engine === "psync" ? `psync, ${depth} threads` : `${engine}, depth ${depth}`;

/** Of every kind of work: what fio does in the beginning does not count, such as touching its buffers. */
interface RampUp {
  readonly rampMs: number;
}

export interface RandomWork extends RampUp {
  readonly sizeBytes: number;
  readonly runtimeMs: number;
}

export interface ReplayWork extends RampUp {
  /** Path of the iolog, relative to the folder that fio runs in. */
  readonly iolog: string;
}

export interface FioJob {
  readonly name: string;
  readonly configuration: FioConfiguration;
  readonly work: RandomWork | ReplayWork;
}

export interface FioTarget {
  /** Name of the file to read in the folder that fio runs in: a path would need escapes that differ by option. */
  readonly fileName: string;
  readonly directIo: boolean;
}

/**
 * Everything that makes fio faster without changing the reads: no latency histograms (`gtod_reduce`),
 * no disk statistics, threads instead of processes; and a clock that needs no calibration at start.
 */
const QUICKEST = ["gtod_reduce=1", "disk_util=0", "thread", "clocksource=clock_gettime"];

function workLines(work: RandomWork | ReplayWork, fileName: string): string[] {
  if ("iolog" in work) return [`read_iolog=${work.iolog}`, "replay_no_stall=1"];
  return [
    `filename=${fileName}`,
    "rw=randread",
    "norandommap",
    "randrepeat=0",
    `bs=${work.sizeBytes}`,
    "time_based",
    `runtime=${Math.round(work.runtimeMs)}ms`,
  ];
}

/** A job file that runs `jobs` one after the other in one fio process (`stonewall`). */
export function jobFile(jobs: readonly FioJob[], target: FioTarget): string {
  const lines = ["[global]", ...QUICKEST, `direct=${target.directIo ? 1 : 0}`, "group_reporting"];
  for (const { name, configuration, work } of jobs) {
    const { engine, depth } = configuration;
    const rampMs = Math.round(work.rampMs);
    lines.push(`[${name}]`, "stonewall", `ioengine=${engine}`);
    lines.push(engine === "psync" ? `numjobs=${depth}` : `iodepth=${depth}`);
    if (rampMs > 0) lines.push(`ramp_time=${rampMs}ms`);
    lines.push(...workLines(work, target.fileName));
  }
  return `${lines.join("\n")}\n`;
}
