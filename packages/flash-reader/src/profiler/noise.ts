import type { ProfileNoise } from "@neuron-chunking/latency-model";
import { FLAG_DEVIATION } from "./rounds.js";
import { median, quantile } from "./statistics.js";
import type { TableMeasurement } from "./table.js";

/** Latencies of single reads on an idle device. */
export interface UnloadedReads {
  readonly sizeBytes: number;
  readonly latencyNs: readonly number[];
}

/**
 * How noisy the measurement was (P3), in shares (0.05 is 5 %) unless a name says otherwise: the middle
 * half of the rounds at a typical and at the worst size; samples relative to the median of their
 * size (p50, p90, p99 and how many); and the latencies of single small reads.
 */
export function noiseOf(measured: TableMeasurement, unloaded: UnloadedReads): ProfileNoise {
  const { chosen, rounds, repeatedRounds, unsteady } = measured;
  const spreads = chosen.samples.map(
    ({ latencyNs }) => (quantile(latencyNs, 0.75) - quantile(latencyNs, 0.25)) / median(latencyNs),
  );
  const ratios = chosen.samples.flatMap(({ latencyNs }) => {
    const middle = median(latencyNs);
    return latencyNs.map((latency) => latency / middle);
  });
  return {
    relativeSpread: median(spreads),
    worstRelativeSpread: Math.max(...spreads),
    flaggedShare: ratios.filter((r) => Math.abs(r - 1) > FLAG_DEVIATION).length / ratios.length,
    rounds: rounds.length,
    rejectedRounds: rounds.filter((round) => round.rejected).length,
    repeatedRounds,
    unsteady: unsteady ? 1 : 0,
    samples: ratios.length,
    sampleP50: quantile(ratios, 0.5),
    sampleP90: quantile(ratios, 0.9),
    sampleP99: quantile(ratios, 0.99),
    unloadedSizeBytes: unloaded.sizeBytes,
    unloadedReads: unloaded.latencyNs.length,
    unloadedP50Ns: quantile(unloaded.latencyNs, 0.5),
    unloadedP90Ns: quantile(unloaded.latencyNs, 0.9),
    unloadedP99Ns: quantile(unloaded.latencyNs, 0.99),
  };
}
