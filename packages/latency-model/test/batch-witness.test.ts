import { describe, expect, test } from "vitest";
import {
  BatchModel,
  estimatePlanNs,
  fitBatchModel,
  fitQuality,
  LatencyTable,
  monotoneLatencyNs,
  planFromMask,
  proportionalBias,
  saturationSizeBytes,
  type BatchObservation,
  type ChunkPlan,
  type FitQuality,
  type LatencyCurve,
} from "../src/index.js";
import { naiveRequests } from "./naive.js";
import { SEED } from "./property.js";
import {
  batchNs,
  DRIVES,
  medianBatchNs,
  seededRandom,
  type Drive,
  type Random,
} from "./simulated-drive.js";

const ROW_BYTES = [896, 1792, 7168, 37888];
const LIMITS = { readThroughBytes: 2048, maxRequestBytes: 512 * 1024 };
const SIZES_BYTES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512].map(
  (kib) => kib * 1024,
);

/** What a profiler finds out about a drive: `T[s]` and `U[s]`. */
function profileDrive(
  drive: Drive,
  random: Random,
): { table: LatencyTable; unloaded: LatencyCurve } {
  const latencyNs = monotoneLatencyNs(
    SIZES_BYTES.map((sizeBytes) => {
      const reads = Math.min(1024, Math.max(128, Math.round(64e6 / sizeBytes)));
      const timeNs = (count: number): number =>
        batchNs(drive, new Array<number>(count).fill(sizeBytes), random);
      // The difference leaves out what the start and the end of a batch cost: `T[s]` is steady state.
      return (timeNs(3 * reads) - timeNs(reads)) / (2 * reads);
    }),
  );
  const saturationBytes = saturationSizeBytes(SIZES_BYTES, latencyNs);
  const table = new LatencyTable({
    schemaVersion: 1,
    name: "simulated",
    origin: "modelled",
    source: "discrete events",
    table: { sizesBytes: SIZES_BYTES, latencyNs },
    saturationBytes,
    tailNsPerByte: latencyNs[SIZES_BYTES.indexOf(saturationBytes)] / saturationBytes,
  });
  const alone = SIZES_BYTES.map((sizeBytes) => medianBatchNs(drive, [sizeBytes], random, 15));
  return { table, unloaded: { sizesBytes: SIZES_BYTES, latencyNs: alone } };
}

/** Runs of rows, one to 32 long on average, 2 to 95 % of the rows of a matrix of 128 to 6000. */
function randomPlan(random: Random): ChunkPlan {
  const rows = Math.ceil(128 * Math.exp(random() * Math.log(6000 / 128)));
  const density = 0.02 + 0.93 * random();
  const meanRun = Math.exp(random() * Math.log(32));
  const meanGap = Math.max(1, (meanRun * (1 - density)) / density);
  const mask = new Uint8Array(rows);
  let selected = 1;
  for (let row = 0; row < rows; row++) {
    mask[row] = selected;
    if (random() < 1 / (selected === 1 ? meanRun : meanGap)) selected = 1 - selected;
  }
  return planFromMask(mask);
}

function observe(drive: Drive, random: Random, count: number): BatchObservation[] {
  return Array.from({ length: count }, (_, index) => {
    const rowBytes = ROW_BYTES[index % ROW_BYTES.length];
    const plan = randomPlan(random);
    const { readThroughBytes, maxRequestBytes } = LIMITS;
    const requests = naiveRequests(plan, rowBytes, readThroughBytes, maxRequestBytes);
    return { plan, rowBytes, measuredNs: medianBatchNs(drive, requests, random) };
  });
}

const reachesAim = ({ r2, mape }: FitQuality): boolean => r2 >= 0.99 && mape <= 0.08;

describe("P5: on masks held out of the fit", () => {
  test.each(Object.keys(DRIVES))(
    "P5: %s: the batch model reaches R2 >= 0.99 and MAPE <= 0.08, the plain sum does not",
    (name) => {
      const drive = DRIVES[name];
      const random = seededRandom(SEED);
      const { table, unloaded } = profileDrive(drive, random);
      const parameters = fitBatchModel(observe(drive, random, 96), table, { unloaded, ...LIMITS });
      const model = new BatchModel(table, parameters);

      const heldOut = observe(drive, random, 160);
      const measured = heldOut.map(({ measuredNs }) => measuredNs);
      // The sum over the same requests: merging alone, without the other terms, is not what the model gains.
      const plain = { fixedNs: 0, sumWeight: 1, laneWeight: 0, perRequestNs: 0, stragglerNs: 0 };
      const sumOfRequests = new BatchModel(table, { ...parameters, ...plain });
      const calibrated = (estimates: number[]): FitQuality => {
        const bias = proportionalBias(measured, estimates);
        return fitQuality(
          measured,
          estimates.map((ns) => ns * bias),
        );
      };
      const sum = calibrated(
        heldOut.map(({ plan, rowBytes }) => estimatePlanNs(plan, rowBytes, table)),
      );
      const mergedSum = calibrated(
        heldOut.map(({ plan, rowBytes }) => sumOfRequests.estimatePlanNs(plan, rowBytes)),
      );
      const batch = fitQuality(
        measured,
        heldOut.map(({ plan, rowBytes }) => model.estimatePlanNs(plan, rowBytes)),
      );
      console.log(
        `seed ${SEED}, ${name}:`,
        JSON.stringify({ sum, mergedSum, batch, lanes: parameters.lanes }),
      );
      expect(reachesAim(batch)).toBe(true);
      expect(reachesAim(sum)).toBe(false);
      expect(mergedSum.mape).toBeGreaterThan(2 * batch.mape);
    },
  );
});
