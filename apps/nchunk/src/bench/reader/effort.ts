import type { FioConfiguration } from "../fio/job-file";

const KIB = 1024;
const MIB = 2 ** 20;

/** How much is measured. */
export interface Effort {
  readonly name: "tiny" | "default" | "thorough";
  readonly fileBytes: number;
  readonly sizesBytes: readonly number[];
  readonly rowSizesBytes: readonly number[];
  readonly keptShares: readonly number[];
  readonly matrixBytes: number;
  /** Sizes of which Node's own reads are measured too. */
  readonly baselineSizesBytes: readonly number[];
  /** About how long one measurement takes, ours and fio's alike. */
  readonly sampleMs: number;
  /** The same for a mixed plan: there are many of them. */
  readonly mixedSampleMs: number;
  readonly sweepMs: number;
  /** The beginning of each of fio's runs, which does not count. */
  readonly rampMs: number;
  readonly minRandomRounds: number;
  readonly minMixedRounds: number;
  readonly maxRounds: number;
  /** When no further round is begun. */
  readonly budgetMs: number;
  readonly eventLoopBatches: number;
  /** How long the event loop is watched while nothing is read. */
  readonly idleMs: number;
  readonly allocationBatches: number;
}

const SIZES_BYTES = [4, 8, 16, 32, 64, 128, 256, 512, 1024].map((kib) => kib * KIB);
/** Rows of the models in the paper: 0.5B and 7B ones in 16 bits, bundled and not. */
const ROW_SIZES_BYTES = [896, 1792, 7168, 37888];

const DEFAULT: Effort = {
  name: "default",
  fileBytes: 1024 * MIB,
  sizesBytes: SIZES_BYTES,
  rowSizesBytes: ROW_SIZES_BYTES,
  keptShares: [0.3, 0.5, 0.7],
  matrixBytes: 64 * MIB,
  baselineSizesBytes: [4 * KIB, 64 * KIB, MIB],
  sampleMs: 160,
  mixedSampleMs: 110,
  // fio looks every 100 ms whether a job has ended, so a shorter one would save nothing.
  sweepMs: 150,
  rampMs: 20,
  minRandomRounds: 1,
  minMixedRounds: 1,
  maxRounds: 12,
  budgetMs: 46_000,
  eventLoopBatches: 1000,
  idleMs: 1000,
  allocationBatches: 10_000,
};

export const EFFORTS: Record<Effort["name"], Effort> = {
  default: DEFAULT,
  thorough: {
    ...DEFAULT,
    name: "thorough",
    baselineSizesBytes: SIZES_BYTES,
    sampleMs: 400,
    mixedSampleMs: 400,
    sweepMs: 300,
    rampMs: 50,
    minRandomRounds: 8,
    minMixedRounds: 4,
    maxRounds: 32,
    budgetMs: 360_000,
    allocationBatches: 100_000,
  },
  // For tests: every part runs, none long enough to say anything about speed.
  tiny: {
    ...DEFAULT,
    name: "tiny",
    fileBytes: 32 * MIB,
    sizesBytes: [4 * KIB, 64 * KIB],
    rowSizesBytes: [896, 7168],
    keptShares: [0.5],
    matrixBytes: 2 * MIB,
    baselineSizesBytes: [64 * KIB],
    sampleMs: 20,
    mixedSampleMs: 20,
    sweepMs: 20,
    rampMs: 0,
    minRandomRounds: 1,
    minMixedRounds: 1,
    maxRounds: 1,
    budgetMs: 0,
    eventLoopBatches: 20,
    idleMs: 50,
    allocationBatches: 200,
  },
};

const grid = (engine: string, depths: readonly number[]): FioConfiguration[] =>
  depths.map((depth) => ({ engine, depth }));

/**
 * Reads in flight at either end of a run are counted in part only: with more bytes than this in flight, what a run of
 * a few hundred milliseconds says about a fast device is off by more than a few percent.
 */
const MAX_FIO_BYTES_IN_FLIGHT = 32 * MIB;

/** Engines and depths that may be fio's best for random reads of one size. */
export function randomCandidates(effort: Effort, sizeBytes: number): FioConfiguration[] {
  if (effort.name === "thorough") {
    const most = MAX_FIO_BYTES_IN_FLIGHT / sizeBytes;
    const depths = [4, 8, 16, 32, 64, 128, 256].filter((depth) => depth <= most);
    return [
      ...grid("io_uring", depths),
      ...grid("libaio", depths),
      ...grid("psync", depths.slice(0, 4)),
    ];
  }
  if (effort.name === "tiny") return grid("io_uring", [16, 32]);
  // The larger a read, the fewer saturate a device; more only lengthen the queue.
  if (sizeBytes <= 16 * KIB) return grid("io_uring", [64, 128]);
  return grid("io_uring", sizeBytes <= 128 * KIB ? [16, 64] : [8, 32]);
}

/**
 * The same for replays, in the thorough bench only: else a replay takes what was best for random reads of its mean
 * length. Threads cannot share an iolog, so psync has one read in flight and is left out.
 */
export function replayCandidates(): FioConfiguration[] {
  const depths = [8, 16, 32, 64, 128, 256];
  return [...grid("io_uring", depths), ...grid("libaio", depths)];
}
