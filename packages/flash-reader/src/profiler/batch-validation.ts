import {
  BatchModel,
  estimatePlanNs,
  fitBatchModel,
  fitQuality,
  proportionalBias,
} from "@neuron-chunking/latency-model";
import type {
  BatchModelParameters,
  ChunkPlan,
  LatencyCurve,
  LatencyTable,
  ProfileMask,
  ProfileValidation,
} from "@neuron-chunking/latency-model";
import type { FlashReader } from "../reader.js";
import type { Bench, OnFraction } from "./bench.js";
import { interleave, typicalNs } from "./interleave.js";
import { randomPlan } from "./random-plan.js";

/** Rows of the models in the paper, 0.5B and 7B ones in 16 bits, bundled and not. */
const ROW_SIZES_BYTES = [896, 1792, 7168, 37_888];
const MAX_CHUNKS = 768;
const MAX_CHUNK_BYTES = 96 << 10;
/** The rows of one plan lie within this: a large matrix. */
const MAX_MATRIX_BYTES = 32 << 20;
/** A plan that should take longer than this many samples is drawn again, with fewer chunks. */
const MAX_PLAN_SAMPLES = 2;

interface MeasuredPlan {
  readonly plan: ChunkPlan;
  readonly rowBytes: number;
  readonly measuredNs: number;
}

export interface BatchMeasurement {
  readonly batchModel: BatchModelParameters;
  readonly validation: ProfileValidation;
}

/**
 * What the sum of T[s] leaves out (P5): reads random plans, each batch from an idle device as callers do,
 * fits the batch model to half of them and says how well it and the plain sum predict the other half.
 */
export async function measureBatches(
  bench: Bench,
  reader: FlashReader,
  table: LatencyTable,
  unloaded: LatencyCurve,
  onFraction: OnFraction,
): Promise<BatchMeasurement> {
  const measured = await measurePlans(bench, reader, table, onFraction);
  return fitAndValidate(measured, table, {
    unloaded,
    readThroughBytes: reader.tuning.readThroughBytes,
    maxRequestBytes: reader.tuning.maxRequestBytes,
  });
}

async function measurePlans(
  bench: Bench,
  reader: FlashReader,
  table: LatencyTable,
  onFraction: OnFraction,
): Promise<MeasuredPlan[]> {
  const { reads, effort, random } = bench;
  const matrixBytes = Math.min(MAX_MATRIX_BYTES, reader.sizeBytes / 2);
  const plans = Array.from({ length: effort.plans }, (_, i) => {
    const rowBytes = ROW_SIZES_BYTES[i % ROW_SIZES_BYTES.length];
    const shape = {
      rowBytes,
      rows: Math.floor(matrixBytes / rowBytes),
      maxChunkBytes: MAX_CHUNK_BYTES,
    };
    let maxChunks = MAX_CHUNKS;
    let plan = randomPlan(random, { ...shape, maxChunks });
    while (
      maxChunks > 1 &&
      estimatePlanNs(plan, rowBytes, table) > MAX_PLAN_SAMPLES * effort.sampleNs
    ) {
      maxChunks /= 2;
      plan = randomPlan(random, { ...shape, maxChunks });
    }
    return { plan, rowBytes };
  });
  const candidates = plans.map(({ plan, rowBytes }) => () => {
    const baseOffsetBytes = reads.place(reader, matrixBytes);
    return reads.batchNs(reader, rangesOf(plan, rowBytes, baseOffsetBytes));
  });
  const samples = await interleave(candidates, {
    rounds: effort.planRounds,
    budgetNs: effort.comparisonBudgetNs,
    random,
    onFraction,
  });
  const times = typicalNs(samples);
  return plans.map((plan, i) => ({ ...plan, measuredNs: times[i] }));
}

function rangesOf({ starts, lengths, chunkCount }: ChunkPlan, rowBytes: number, base: number) {
  const offsetsBytes = new Float64Array(chunkCount);
  const lengthsBytes = new Float64Array(chunkCount);
  for (let i = 0; i < chunkCount; i++) {
    offsetsBytes[i] = base + starts[i] * rowBytes;
    lengthsBytes[i] = lengths[i] * rowBytes;
  }
  return { offsetsBytes, lengthsBytes, count: chunkCount };
}

/** @internal Every row size is in both halves. */
export function fitAndValidate(
  measured: readonly MeasuredPlan[],
  table: LatencyTable,
  fixedParts: Parameters<typeof fitBatchModel>[2],
): BatchMeasurement {
  const half = (odd: number): MeasuredPlan[] =>
    measured.filter((_, i) => Math.floor(i / ROW_SIZES_BYTES.length) % 2 === odd);
  const [fitted, heldOut] = [half(0), half(1)];
  const batchModel = fitBatchModel(fitted, table, fixedParts);
  const model = new BatchModel(table, batchModel);
  const sumOf = ({ plan, rowBytes }: MeasuredPlan): number => estimatePlanNs(plan, rowBytes, table);
  const timesOf = (plans: readonly MeasuredPlan[]): number[] => plans.map((p) => p.measuredNs);
  // The paper allows the plain sum a proportional bias; it is learned from the fitted half.
  const bias = proportionalBias(timesOf(fitted), fitted.map(sumOf));
  const masks = heldOut.map((mask): ProfileMask => {
    const { plan, rowBytes, measuredNs } = mask;
    let rows = 0;
    for (let i = 0; i < plan.chunkCount; i++) rows += plan.lengths[i];
    return {
      rowBytes,
      kind: "random",
      chunks: plan.chunkCount,
      bytes: rows * rowBytes,
      measuredNs,
      sumNs: sumOf(mask),
      batchNs: model.estimatePlanNs(plan, rowBytes),
    };
  });
  const quality = (estimate: (mask: ProfileMask) => number) =>
    fitQuality(timesOf(heldOut), masks.map(estimate));
  return {
    batchModel,
    validation: {
      masks,
      sum: quality((mask) => bias * mask.sumNs),
      batch: quality((mask) => mask.batchNs),
    },
  };
}
