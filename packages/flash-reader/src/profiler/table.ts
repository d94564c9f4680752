import { performance } from "node:perf_hooks";
import type {
  LatencyCurve,
  ProfileRound,
  ProfileSample,
  ReaderBackendName,
  ReaderTuning,
} from "@neuron-chunking/latency-model";
import type { Bench, OnFraction } from "./bench.js";
import type { Effort } from "./effort.js";
import { measureRound, NEAR_BEST, typicalNs } from "./interleave.js";
import { fitLatencyNs } from "./latency-fit.js";
import { acceptedRounds, judgeRounds, missingRounds } from "./rounds.js";
import { geometricMean } from "./statistics.js";
import { readsInFlight } from "./steady-reads.js";

const KIB = 1024;
/**
 * Read sizes, dense where the curve bends. Some are no multiple of a page, as real rows are: 1792 and
 * 7168 bytes (0.5B and 7B models) and 37 KiB.
 */
const COMMON_KIB = [1, 1.75, 2, 4, 7, 8, 12, 16, 24, 32, 37, 48, 64, 96, 128, 192, 256, 512, 1024];
const FURTHER_KIB = [3, 6, 20, 40, 80, 112, 160, 224, 320, 384, 640, 768];

export function tableSizes({ allSizes }: Pick<Effort, "allSizes">): number[] {
  const sizes = allSizes ? [...COMMON_KIB, ...FURTHER_KIB] : COMMON_KIB;
  return sizes.map((kib) => kib * KIB).sort((a, b) => a - b);
}

export interface BackendTable {
  readonly name: ReaderBackendName;
  /** The monotone fit (P3). */
  readonly table: LatencyCurve;
  /** Every round, in the order of `rounds`, those that were rejected too. */
  readonly samples: readonly ProfileSample[];
}

export interface TableMeasurement {
  readonly backends: readonly BackendTable[];
  readonly chosen: BackendTable;
  readonly rounds: readonly ProfileRound[];
  /** Rounds that were measured because others were rejected. */
  readonly repeatedRounds: number;
  /** Nearly all rounds deviate: all of them count. */
  readonly unsteady: boolean;
}

/**
 * Time per read of each size while the device is saturated with reads of that size (paper App. D),
 * through every backend, all sizes and backends once per round in a new order. Rounds that deviate
 * are measured again, a bounded number of times (P2).
 */
export async function measureTable(
  bench: Bench,
  backends: readonly ReaderBackendName[],
  tuning: Partial<ReaderTuning>,
  onFraction: OnFraction,
): Promise<TableMeasurement> {
  const { readers, reads, effort, random } = bench;
  const sizes = tableSizes(effort);
  const opened = [];
  for (const backend of backends) opened.push(await readers.open(tuning, backend));
  const candidates = opened.flatMap((reader) =>
    sizes.map((sizeBytes) =>
      reads.candidate({ reader, sizeBytes, inFlight: readsInFlight(reader, sizeBytes) }),
    ),
  );
  const samples: number[][] = candidates.map(() => []);
  for (const candidate of candidates) await candidate();
  const wanted = effort.tableRounds;
  const most = wanted + effort.maxRepeatedRounds;
  const startedMs = performance.now();
  const isLate = (): boolean => (performance.now() - startedMs) * 1e6 > effort.tableBudgetNs;
  let rounds: ProfileRound[] = [];
  while (
    rounds.length < wanted ||
    (missingRounds(rounds, wanted) > 0 && rounds.length < most && !isLate())
  ) {
    const expected = Math.min(most, rounds.length + missingRounds(rounds, wanted));
    await measureRound(candidates, samples, random, (fraction) => {
      onFraction((rounds.length + fraction) / expected);
    });
    rounds = judgeRounds(samples);
  }
  await readers.close(...opened);
  return { ...tabulate(backends, sizes, samples, rounds), repeatedRounds: rounds.length - wanted };
}

/** @internal From raw samples [backends * sizes][rounds] to tables. */
export function tabulate(
  backends: readonly ReaderBackendName[],
  sizesBytes: readonly number[],
  samples: readonly (readonly number[])[],
  rounds: readonly ProfileRound[],
): Omit<TableMeasurement, "repeatedRounds"> {
  const accepted = acceptedRounds(samples, rounds);
  const typical = typicalNs(accepted.samples);
  const sizes = sizesBytes.length;
  const tables = backends.map((name, at): BackendTable => {
    const own = <T>(all: readonly T[]): T[] => all.slice(at * sizes, (at + 1) * sizes);
    const raw = own(samples);
    return {
      name,
      table: { sizesBytes, latencyNs: fitLatencyNs(sizesBytes, own(typical)) },
      samples: sizesBytes.map((sizeBytes, i) => ({ sizeBytes, latencyNs: raw[i] })),
    };
  });
  return { backends: tables, chosen: faster(tables), rounds, unsteady: accepted.unsteady };
}

/**
 * The backend with the lower geometric-mean time over all sizes; an earlier one if it is within 3 %.
 * Backends that are asked for first (io_uring) cost less processor time.
 */
export function faster(tables: readonly BackendTable[]): BackendTable {
  const means = tables.map(({ table }) => geometricMean(table.latencyNs));
  const enough = Math.min(...means) * (1 + NEAR_BEST);
  return tables[means.findIndex((mean) => mean <= enough)];
}
