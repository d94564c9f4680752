import type { LatencyCurve } from "@neuron-chunking/latency-model";
import type { FlashReader } from "../reader.js";
import type { Bench } from "./bench.js";
import { interleave } from "./interleave.js";
import type { UnloadedReads } from "./noise.js";
import { fitLatencyNs } from "./latency-fit.js";
import { median } from "./statistics.js";

const KIB = 1024;
const SIZES_BYTES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].map((kib) => kib * KIB);
const SMALL_BYTES = 4 * KIB;

export interface UnloadedMeasurement {
  /** U[s]: time of one read on an idle device (P5). */
  readonly curve: LatencyCurve;
  /** The raw latencies of small reads. */
  readonly small: UnloadedReads;
}

/** Reads one at a time (depth 1), sizes in turn, up to the longest request that is not split. */
export async function measureUnloaded(
  { reads, effort, random }: Bench,
  reader: FlashReader,
): Promise<UnloadedMeasurement> {
  const most = Math.max(reader.tuning.maxRequestBytes, SMALL_BYTES);
  const sizes = SIZES_BYTES.filter((size) => size <= most);
  const latencies: number[][] = sizes.map(() => []);
  const candidates = sizes.map((sizeBytes, index) => async () => {
    for (let i = 0; i < effort.unloadedReads; i++) {
      const offsetsBytes = Float64Array.of(reads.place(reader, sizeBytes));
      const lengthsBytes = Float64Array.of(sizeBytes);
      latencies[index].push(await reads.batchNs(reader, { offsetsBytes, lengthsBytes, count: 1 }));
    }
    return median(latencies[index]);
  });
  await interleave(candidates, {
    rounds: effort.unloadedRounds,
    budgetNs: effort.comparisonBudgetNs,
    random,
  });
  return {
    curve: { sizesBytes: sizes, latencyNs: fitLatencyNs(sizes, latencies.map(median)) },
    small: { sizeBytes: SMALL_BYTES, latencyNs: latencies[sizes.indexOf(SMALL_BYTES)] },
  };
}
