import { writeFile } from "node:fs/promises";
import path from "node:path";
import { NchunkError } from "../../errors";
import type { BenchFile } from "../bench-file";
import type { Contest } from "../fio/fio";
import type { FioConfiguration, FioJob } from "../fio/job-file";
import { iolog, widen, type FileRange } from "../fio/iolog";
import { requireMeasured, throughput, type FioResult } from "../fio/parse-output";
import type { Context } from "./context";
import { replayCandidates } from "./effort";

/** The sweep replays the beginning only. */
const SWEEP_READS = 1500;
const SWEEP_BYTES = 32 * 2 ** 20;
/** The ramp-up is at most this share of a replay. */
const RAMP_SHARE = 0.1;

const bytesOf = (ranges: readonly FileRange[]): number =>
  ranges.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);

/** One case as fio can read it: an iolog of its ranges, each widened to whole blocks, on its own. */
export class Replay {
  private constructor(
    readonly name: string,
    readonly bytes: number,
    private readonly ranges: readonly FileRange[],
    private readonly rampMs: number,
    private readonly folder: string,
    private readonly file: BenchFile,
  ) {}

  static async prepare(
    { readers, file, effort }: Context,
    options: { folder: string; name: string; expectedNs: number },
    ranges: readonly FileRange[],
  ): Promise<Replay> {
    const { folder, name, expectedNs } = options;
    const { alignmentBytes } = readers.chosen;
    const wide = ranges.map((range) => widen(range, alignmentBytes, file.sizeBytes));
    const rampMs = Math.min(effort.rampMs, RAMP_SHARE * expectedNs * 1e-6);
    const replay = new Replay(name, bytesOf(wide), wide, rampMs, folder, file);
    await replay.#write(name, wide);
    return replay;
  }

  get meanBytes(): number {
    return this.bytes / this.ranges.length;
  }

  #logPath(name: string): string {
    return path.join(this.folder, `${name}.iolog`);
  }

  /** As fio, which runs in the folder of the file, is told it: a colon in a path would separate two logs. */
  #logName(name: string): string {
    return path.relative(this.file.folder, this.#logPath(name));
  }

  #write(name: string, ranges: readonly FileRange[]): Promise<void> {
    return writeFile(this.#logPath(name), iolog(this.file.name, ranges));
  }

  /** A short version of it, to find fio's best engine and depth. */
  async contest(): Promise<Contest> {
    const first: FileRange[] = [];
    let bytes = 0;
    for (const range of this.ranges) {
      if (first.length >= SWEEP_READS || bytes >= SWEEP_BYTES) break;
      first.push(range);
      bytes += range.lengthBytes;
    }
    const name = `${this.name}-sweep`;
    await this.#write(name, first);
    return { candidates: replayCandidates(), work: { iolog: this.#logName(name), rampMs: 0 } };
  }

  job(configuration: FioConfiguration): FioJob {
    const work = { iolog: this.#logName(this.name), rampMs: this.rampMs };
    return { name: this.name, configuration, work };
  }

  /** fio's time for all the ranges, ns: by its rate after the ramp-up. Throws BENCH_FAILED. */
  timeNs(result: FioResult | undefined, { depth }: FioConfiguration): number {
    const bytesPerNs = requireMeasured(result ? throughput(result) : 0);
    this.#requireAllRead(result as FioResult, depth);
    return this.bytes / bytesPerNs;
  }

  /**
   * fio counts from the end of the ramp-up to the end of the log: the reads begun in it are the last ones of the
   * log, and their bytes are known. Those in flight at either end are counted in part; at the end of an iolog fio
   * does not even await them (seen with 3.33).
   */
  #requireAllRead({ reads, bytes }: FioResult, depth: number): void {
    const longestBytes = this.ranges.reduce((most, one) => Math.max(most, one.lengthBytes), 0);
    const expected = bytesOf(this.ranges.slice(Math.max(0, this.ranges.length - reads)));
    const isAll = this.rampMs > 0 || reads === this.ranges.length;
    if (isAll && Math.abs(bytes - expected) <= depth * longestBytes) return;
    throw new NchunkError(
      "BENCH_FAILED",
      `fio replayed ${reads} reads of ${bytes} bytes instead of ${expected} bytes; ` +
        "was the file changed meanwhile? Run the bench again.",
    );
  }
}
