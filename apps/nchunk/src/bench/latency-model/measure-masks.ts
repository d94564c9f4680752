import type { FlashReader } from "@neuron-chunking/flash-reader";
import type { LatencyCurve } from "@neuron-chunking/latency-model";
import type { ReportProgress } from "../../terminal/progress";
import { shuffle, uniformGenerator } from "../../random";
import { median } from "../../statistics";
import { runRounds } from "../alternating";
import { alignToPage, planRanges } from "../plan-ranges";
import { verifySample } from "../verify";
import type { ModelEffort } from "./effort";
import type { Mask } from "./masks";

const ORDER_SEED = 19;
const PLACE_SEED = 23;
const KIB = 1024;
const UNLOADED_SIZES_BYTES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].map((kib) => kib * KIB);
const UNLOADED_REPEATS = 25;

export interface MeasuringOptions {
  readonly effort: ModelEffort;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
  readonly remainingMs: () => number;
}

/** A random place where `lengthBytes` fit, at a page. */
function drawPlace(reader: FlashReader, lengthBytes: number, uniform: () => number): number {
  const page = alignToPage(1);
  const places = Math.floor((reader.sizeBytes - lengthBytes) / page) + 1;
  return Math.floor(uniform() * places) * page;
}

/** `U[s]`: one read at a time with nothing else in flight; medians. */
export async function measureUnloaded(
  reader: FlashReader,
  { signal, report }: MeasuringOptions,
): Promise<LatencyCurve> {
  const uniform = uniformGenerator(PLACE_SEED);
  const into = reader.allocate(reader.landingBytesBound(1, UNLOADED_SIZES_BYTES.at(-1) ?? 0));
  const samples = UNLOADED_SIZES_BYTES.map(() => [] as number[]);
  report(undefined, "single reads");
  for (let repeat = 0; repeat < UNLOADED_REPEATS; repeat += 1) {
    for (const [i, sizeBytes] of UNLOADED_SIZES_BYTES.entries()) {
      const offsetsBytes = Float64Array.of(drawPlace(reader, sizeBytes, uniform));
      const ranges = { offsetsBytes, lengthsBytes: Float64Array.of(sizeBytes), count: 1 };
      samples[i].push((await reader.read(ranges, { into, signal })).elapsedNs);
    }
  }
  return { sizesBytes: UNLOADED_SIZES_BYTES, latencyNs: samples.map(median) };
}

/** Repeats of every mask, ns, and how many ranges were compared with the file's known content. */
export interface MaskSamples {
  readonly samplesNs: readonly (readonly number[])[];
  readonly verifiedRanges: number;
}

/**
 * Reads every mask once per round, in a new order and at a new place of the file each round, so that a
 * disturbance hits all masks alike and no cache of the device helps. The first round warms up and checks the bytes.
 */
export async function measureMasks(
  reader: FlashReader,
  masks: readonly Mask[],
  options: MeasuringOptions,
): Promise<MaskSamples> {
  const { effort, report, signal } = options;
  const uniform = uniformGenerator(PLACE_SEED);
  const order = masks.map((_, i) => i);
  const toShuffle = uniformGenerator(ORDER_SEED);
  const capacities = masks.map(({ plan, rowBytes }) =>
    reader.landingBytesForPlan(plan, { baseOffsetBytes: 0, rowBytes }),
  );
  const into = reader.allocate(Math.max(...capacities));
  into.bytes.fill(1);
  const samplesNs = masks.map(() => [] as number[]);
  let verifiedRanges = 0;
  const runRound = async (round: number): Promise<void> => {
    const isWarmUp = round === 0;
    for (const [done, i] of shuffle(order, toShuffle).entries()) {
      report(done / order.length, isWarmUp ? "warming up" : `round ${round}`);
      const { plan, rowBytes, rows } = masks[i];
      const baseOffsetBytes = drawPlace(reader, rows * rowBytes, uniform);
      const result = await reader.readPlan(plan, { baseOffsetBytes, rowBytes }, { into, signal });
      if (isWarmUp) {
        verifiedRanges += verifySample(result, planRanges(plan, rowBytes, baseOffsetBytes));
      } else samplesNs[i].push(result.elapsedNs);
    }
  };
  const { minRounds, maxRounds } = effort;
  const rounds = { minRounds: minRounds + 1, maxRounds: maxRounds + 1 };
  await runRounds([{ name: "masks", ...rounds, runRound }], options.remainingMs);
  return { samplesNs, verifiedRanges };
}
