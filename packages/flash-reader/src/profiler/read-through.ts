import type { ReaderTuning } from "@neuron-chunking/latency-model";
import type { FlashReader } from "../reader.js";
import type { Bench, OnFraction } from "./bench.js";
import { interleave, typicalNs } from "./interleave.js";

const KIB = 1024;
/** Larger gaps are more often left for good reasons than by chance. */
const MAX_READ_THROUGH_BYTES = 64 * KIB;
/** A line needs two points, and a third to not follow the noise of each. */
const MIN_FIT_SIZES = 3;
const MAX_PAIRS = 256;
const MIN_PAIRS = 32;

/**
 * The longest gap that should be cheaper to read than to skip (R3): a request costs `a` besides its
 * bytes, each byte `b`, in `T = a + b s` fitted (least relative squares) to the sizes up to saturation;
 * hence `a / b`, in whole blocks and at most 64 KiB.
 */
export function readThroughFromTable(
  sizesBytes: readonly number[],
  latencyNs: readonly number[],
  saturationBytes: number,
  alignmentBytes: number,
): number {
  const below = sizesBytes.findIndex((size) => size > saturationBytes);
  const count = Math.max(MIN_FIT_SIZES, below < 0 ? sizesBytes.length : below);
  // Weighted by 1/T^2: minimises the sum of ((a + b s - T) / T)^2.
  let [w, ws, wss, wt, wst] = [0, 0, 0, 0, 0];
  for (let i = 0; i < Math.min(count, sizesBytes.length); i++) {
    const weight = 1 / latencyNs[i] ** 2;
    w += weight;
    ws += weight * sizesBytes[i];
    wss += weight * sizesBytes[i] ** 2;
    wt += weight * latencyNs[i];
    wst += weight * sizesBytes[i] * latencyNs[i];
  }
  const determinant = w * wss - ws * ws;
  const fixedNs = (wss * wt - ws * wst) / determinant;
  const nsPerByte = (w * wst - ws * wt) / determinant;
  if (!(fixedNs > 0)) return 0;
  const breakEven = nsPerByte > 0 ? Math.round(fixedNs / nsPerByte) : MAX_READ_THROUGH_BYTES;
  const bounded = Math.min(breakEven, MAX_READ_THROUGH_BYTES);
  return bounded - (bounded % alignmentBytes);
}

/** @internal The gaps to try: the one that the table says, and smaller ones, in whole blocks. */
export function gapsToTry(gapBytes: number, alignmentBytes: number): number[] {
  const gaps = [gapBytes, gapBytes / 2, gapBytes / 4].map(
    (gap) => Math.floor(gap / alignmentBytes) * alignmentBytes,
  );
  return [...new Set(gaps)].filter((gap) => gap > 0);
}

/**
 * The largest of these gaps that is read through in no more time than it is skipped, measured on pairs of
 * chunks with such a gap between them; 0 when skipping always wins.
 */
export async function verifyReadThrough(
  bench: Bench,
  tuning: ReaderTuning,
  gapBytes: number,
  onFraction: OnFraction,
): Promise<number> {
  const { readers, reads, effort, random } = bench;
  const reader = await readers.open({ ...tuning, readThroughBytes: gapBytes }, tuning.backend);
  const gaps = gapsToTry(gapBytes, reader.alignmentBytes);
  const candidates = gaps.flatMap((gap) =>
    [true, false].map((through) => () => reads.batchNs(reader, pairs(bench, reader, gap), through)),
  );
  const times = typicalNs(
    await interleave(candidates, {
      rounds: 2 * effort.sweepRounds,
      budgetNs: effort.comparisonBudgetNs,
      random,
      onFraction,
    }),
  );
  await readers.close(reader);
  return gaps.find((_, i) => times[2 * i] <= times[2 * i + 1]) ?? 0;
}

/** Pairs of chunks, each long enough that span and gap are within twice what is wanted (R3). */
function pairs({ random, effort }: Bench, reader: FlashReader, gapBytes: number) {
  const block = Math.max(4 * KIB, reader.alignmentBytes);
  const chunkBytes = Math.max(block, Math.ceil(gapBytes / 2 / block) * block);
  const pairBytes = 2 * chunkBytes + gapBytes;
  const most = Math.floor(effort.sampleBytes / pairBytes);
  const wanted = Math.min(MAX_PAIRS, Math.max(MIN_PAIRS, effort.sampleReads / 32));
  const pairCount = Math.max(1, Math.min(wanted, most));
  const stride = Math.floor(reader.sizeBytes / pairCount / block);
  const room = Math.max(1, Math.floor(stride / 2 - pairBytes / block));
  const offsetsBytes = new Float64Array(2 * pairCount);
  for (let pair = 0; pair < pairCount; pair++) {
    const at = (pair * stride + random.below(room)) * block;
    offsetsBytes[2 * pair] = at;
    offsetsBytes[2 * pair + 1] = at + chunkBytes + gapBytes;
  }
  const count = 2 * pairCount;
  return { offsetsBytes, lengthsBytes: new Float64Array(count).fill(chunkBytes), count };
}
