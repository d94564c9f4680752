import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { median } from "../../statistics";
import { noiseOf, type Compared, type Noise } from "../statistics-of-rounds";
import type { AllocationGrowth } from "./allocation";
import type { Baseline } from "./baseline";
import type { EventLoopDelay } from "./event-loop";
import type { MixedCase } from "./mixed-section";
import type { RandomCase } from "./random-section";

/** Reads of at least this size: the pool must keep up with io_uring (FLASH_IO.md R4). */
const POOL_COMPARED_FROM_BYTES = 64 * 1024;

/** The reader as it opened the file. */
export interface ReaderFacts {
  readonly backend: string;
  readonly tier: string;
  readonly directIo: boolean;
  readonly alignmentBytes: number;
  readonly tuning: unknown;
  /** Backends that cannot be had here, and why. */
  readonly refused: Readonly<Record<string, string>>;
}

export interface PoolToUring {
  /** Throughput of the pool over io_uring's; null when one of them is missing. */
  readonly min: number | null;
  readonly bySize: readonly { readonly sizeBytes: number; readonly ratio: number }[];
}

export interface Summary {
  /** Of the random reads. Throughput of ours over fio's; null without fio. */
  readonly medianRatio: number | null;
  readonly minRatio: number | null;
  readonly mixedMedianRatio: number | null;
  readonly mixedMinRatio: number | null;
  readonly poolToUring: PoolToUring;
  readonly randomRounds: number;
  readonly mixedRounds: number;
  readonly noise: { readonly random: Noise; readonly mixed: Noise };
}

export interface ReaderReport {
  readonly bench: "reader";
  readonly effort: string;
  readonly file: { readonly path: string; readonly sizeBytes: number };
  readonly profile: Pick<DeviceProfile, "name">;
  readonly reader: ReaderFacts;
  readonly fioVersion: string | null;
  readonly cases: readonly (RandomCase | MixedCase)[];
  readonly baselines: readonly Baseline[];
  readonly eventLoopDelayP99Ns: number;
  /** The same while nothing is read: the machine's own pauses. */
  readonly eventLoopIdleP99Ns: number;
  readonly eventLoop: EventLoopDelay;
  readonly allocation: AllocationGrowth;
  readonly verifiedRanges: number;
  readonly summary: Summary;
  readonly notes: readonly string[];
  /** What the time was spent on. */
  readonly partsMs: Readonly<Record<string, number>>;
  readonly elapsedMs: number;
}

const ratiosOf = (cases: readonly Compared[]): number[] =>
  cases.map(({ ratioToFio }) => ratioToFio).filter((ratio) => ratio !== null);

const orNull = (values: readonly number[], of: (values: readonly number[]) => number) =>
  values.length > 0 ? of(values) : null;

const least = (values: readonly number[]): number => Math.min(...values);

function poolToUring(cases: readonly RandomCase[]): PoolToUring {
  const bySize = cases.flatMap((one) => {
    const compared: Record<string, Compared> = { ...one.backends, [one.backend]: one };
    const pool = compared["pool"];
    const uring = compared["io_uring"];
    if (!pool || !uring) return [];
    const ratios = pool.rounds.map(({ readerNs }, i) => uring.rounds[i].readerNs / readerNs);
    return [{ sizeBytes: one.sizeBytes, ratio: median(ratios) }];
  });
  const compared = bySize.filter(({ sizeBytes }) => sizeBytes >= POOL_COMPARED_FROM_BYTES);
  return {
    min: orNull(
      compared.map(({ ratio }) => ratio),
      least,
    ),
    bySize,
  };
}

export function summarize(random: readonly RandomCase[], mixed: readonly MixedCase[]): Summary {
  return {
    medianRatio: orNull(ratiosOf(random), median),
    minRatio: orNull(ratiosOf(random), least),
    mixedMedianRatio: orNull(ratiosOf(mixed), median),
    mixedMinRatio: orNull(ratiosOf(mixed), least),
    poolToUring: poolToUring(random),
    randomRounds: random[0]?.rounds.length ?? 0,
    mixedRounds: mixed[0]?.rounds.length ?? 0,
    noise: { random: noiseOf(random), mixed: noiseOf(mixed) },
  };
}
