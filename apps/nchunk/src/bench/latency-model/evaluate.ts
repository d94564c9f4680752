import {
  BatchModel,
  estimatePlanNs,
  fitBatchModel,
  fitQuality,
  proportionalBias,
  type BatchModelFixedParts,
  type BatchModelParameters,
  type FitQuality,
  type LatencyTable,
} from "@neuron-chunking/latency-model";
import { shuffle, uniformGenerator } from "../../random";
import { median } from "../../statistics";
import type { Mask } from "./masks";

const SPLIT_SEED = 29;

export interface MeasuredMask extends Mask {
  /** Median of the repeats. */
  readonly measuredNs: number;
}

/** How close each model came; `profile` only where the loaded profile has a batch model of its own. */
export interface Qualities {
  /** The plain sum of `T[s]` (paper section 3.1) times the factor that fits best, fitted on the other half. */
  readonly sum: FitQuality;
  /** The plain sum as it is. */
  readonly sumUncalibrated: FitQuality;
  readonly batch: FitQuality;
  readonly profile?: FitQuality;
}

export interface Evaluation {
  /** Masks that the models were fitted on, and others that they were judged by. */
  readonly fitted: number;
  readonly heldOut: number;
  /** What the plain sum is multiplied by. */
  readonly sumBias: number;
  readonly batchParameters: BatchModelParameters;
  readonly models: Qualities;
  readonly byRowBytes: readonly ({ rowBytes: number; heldOut: number } & Qualities)[];
  readonly byKind: readonly ({ kind: Mask["kind"]; heldOut: number } & Qualities)[];
}

/** Half of each group by chance: every row size and kind is fitted and judged alike. */
export function splitMasks<T extends Pick<Mask, "kind" | "rowBytes">>(
  masks: readonly T[],
): { fitted: T[]; heldOut: T[] } {
  const uniform = uniformGenerator(SPLIT_SEED);
  const groups = new Map<string, T[]>();
  for (const mask of masks) {
    const key = `${mask.kind} ${mask.rowBytes}`;
    groups.set(key, [...(groups.get(key) ?? []), mask]);
  }
  const shuffled = [...groups.values()].flatMap((group) => shuffle(group, uniform));
  return {
    fitted: shuffled.filter((_, i) => i % 2 === 0),
    heldOut: shuffled.filter((_, i) => i % 2 === 1),
  };
}

/** Mean absolute deviation of repeats from their median, as a share; the median over all masks. */
export function noiseOfRepeats(samplesNs: readonly (readonly number[])[]): number {
  const deviations = samplesNs.map((samples) => {
    const middle = median(samples);
    const sum = samples.reduce((total, sample) => total + Math.abs(sample - middle), 0);
    return sum / samples.length / middle;
  });
  return median(deviations);
}

type Estimate = (mask: Mask) => number;

function qualitiesOf(masks: readonly MeasuredMask[], models: Record<string, Estimate>): Qualities {
  const measuredNs = masks.map((mask) => mask.measuredNs);
  const qualities = Object.entries(models).map(([name, estimate]) => [
    name,
    fitQuality(measuredNs, masks.map(estimate)),
  ]);
  return Object.fromEntries(qualities) as Qualities;
}

/** Fits the models on one half of the masks and judges them by the other. */
export function evaluateModels(
  masks: readonly MeasuredMask[],
  table: LatencyTable,
  fixedParts: BatchModelFixedParts,
  fromProfile: BatchModelParameters | undefined,
): Evaluation {
  const { fitted, heldOut } = splitMasks(masks);
  const sum: Estimate = ({ plan, rowBytes }) => estimatePlanNs(plan, rowBytes, table);
  const sumBias = proportionalBias(
    fitted.map(({ measuredNs }) => measuredNs),
    fitted.map(sum),
  );
  const batchParameters = fitBatchModel(fitted, table, fixedParts);
  const estimateOf = (parameters: BatchModelParameters): Estimate => {
    const model = new BatchModel(table, parameters);
    return ({ plan, rowBytes }) => model.estimatePlanNs(plan, rowBytes);
  };
  const models: Record<keyof Qualities, Estimate> | Record<string, Estimate> = {
    sum: (mask) => sumBias * sum(mask),
    sumUncalibrated: sum,
    batch: estimateOf(batchParameters),
    ...(fromProfile && { profile: estimateOf(fromProfile) }),
  };
  const distinct = <T>(values: readonly T[]): T[] => [...new Set(values)];
  const judge = (some: readonly MeasuredMask[]) => ({
    heldOut: some.length,
    ...qualitiesOf(some, models),
  });
  return {
    fitted: fitted.length,
    heldOut: heldOut.length,
    sumBias,
    batchParameters,
    models: qualitiesOf(heldOut, models),
    byRowBytes: distinct(heldOut.map(({ rowBytes }) => rowBytes)).map((rowBytes) => ({
      rowBytes,
      ...judge(heldOut.filter((mask) => mask.rowBytes === rowBytes)),
    })),
    byKind: distinct(heldOut.map(({ kind }) => kind)).map((kind) => ({
      kind,
      ...judge(heldOut.filter((mask) => mask.kind === kind)),
    })),
  };
}
