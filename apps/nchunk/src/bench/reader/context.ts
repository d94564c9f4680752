import type { DeviceProfile, LatencyTable } from "@neuron-chunking/latency-model";
import type { ReportProgress } from "../../terminal/progress";
import type { BenchFile } from "../bench-file";
import type { Fio } from "../fio/fio";
import type { FioTarget } from "../fio/job-file";
import type { Effort } from "./effort";
import type { OpenReaders } from "./open-readers";

/** What every part of the bench works with. */
export interface Context {
  readonly effort: Effort;
  readonly file: BenchFile;
  readonly readers: OpenReaders;
  readonly profile: DeviceProfile;
  readonly table: LatencyTable;
  /** Undefined: there is none to compare with. */
  readonly fio: Fio | undefined;
  readonly target: FioTarget;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}
