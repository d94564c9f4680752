import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BatchModel,
  estimatePlanNs,
  fitBatchModel,
  LatencyTable,
  MIN_BATCH_OBSERVATIONS,
  planFromMask,
  planFromRows,
  simulatedDevice,
  type BatchModelParameters,
  type BatchObservation,
  type ChunkPlan,
} from "../src/index.js";
import { expectError } from "./expect-error.js";
import { naiveMakespan, naiveRequests } from "./naive.js";
import { check, SEED } from "./property.js";
import { seededRandom } from "./simulated-drive.js";

const table = new LatencyTable(simulatedDevice("nvme-gen4"));
const parameters: BatchModelParameters = {
  lanes: 12,
  fixedNs: 30_000,
  sumWeight: 0.8,
  laneWeight: 0.3,
  perRequestNs: 400,
  stragglerNs: 9000,
  unloaded: { sizesBytes: [4096, 65536, 262144], latencyNs: [80_000, 110_000, 170_000] },
  readThroughBytes: 2000,
  maxRequestBytes: 300_000,
};

/** `U[s]` of `parameters`, by hand. */
function unloadedNs(sizeBytes: number): number {
  if (sizeBytes <= 4096) return 80_000;
  if (sizeBytes <= 65536) return 80_000 + (30_000 * (sizeBytes - 4096)) / (65536 - 4096);
  if (sizeBytes <= 262144) return 110_000 + (60_000 * (sizeBytes - 65536)) / (262144 - 65536);
  return 170_000 + (sizeBytes - 262144) * table.tailNsPerByte;
}

const plans = fc.array(fc.boolean(), { minLength: 1, maxLength: 400 }).map(planFromMask);

describe("batch model", () => {
  test("P5: is the documented formula over the documented requests", () => {
    const model = new BatchModel(table, parameters);
    check(
      fc.property(plans, fc.integer({ min: 1, max: 40_000 }), (plan, rowBytes) => {
        const { readThroughBytes, maxRequestBytes } = parameters;
        const requests = naiveRequests(plan, rowBytes, readThroughBytes, maxRequestBytes);
        const sumNs = requests.reduce((sum, size) => sum + table.latencyNs(size), 0);
        const laneNs = naiveMakespan(requests.map(unloadedNs), 12);
        const expected =
          30_000 +
          0.8 * sumNs +
          0.3 * laneNs +
          400 * requests.length +
          9000 * Math.log(requests.length);
        const estimate = model.estimatePlanNs(plan, rowBytes);
        if (requests.length === 0) expect(estimate).toBe(0);
        else expect(estimate / expected).toBeCloseTo(1, 9);
      }),
    );
  });

  test("with a sum weight alone, no merging and no splitting, is the plain sum", () => {
    const plain = new BatchModel(table, {
      ...{
        ...parameters,
        fixedNs: 0,
        sumWeight: 1,
        laneWeight: 0,
        perRequestNs: 0,
        stragglerNs: 0,
      },
      ...{ readThroughBytes: 0, maxRequestBytes: Number.MAX_SAFE_INTEGER },
    });
    check(
      fc.property(plans, fc.integer({ min: 1, max: 40_000 }), (plan, rowBytes) => {
        const sumNs = estimatePlanNs(plan, rowBytes, table);
        expect(plain.estimatePlanNs(plan, rowBytes)).toBeCloseTo(sumNs, 3);
      }),
    );
  });

  test("never falls when a chunk grows into a gap or one is added, while none merge or split", () => {
    const model = new BatchModel(table, {
      ...parameters,
      readThroughBytes: 0,
      maxRequestBytes: 1e9,
    });
    check(
      fc.property(
        fc.array(fc.boolean(), { minLength: 3, maxLength: 300 }),
        fc.nat(),
        (mask, pick) => {
          const row = pick % mask.length;
          // A row between two chunks makes one request of two, which may well be cheaper.
          fc.pre(!(mask[row - 1] && mask[row + 1]));
          const more = mask.map((selected, i) => selected || i === row);
          const before = model.estimatePlanNs(planFromMask(mask), 1792);
          expect(model.estimatePlanNs(planFromMask(more), 1792)).toBeGreaterThanOrEqual(before);
        },
      ),
    );
  });

  test("never falls when chunks are added after the others", () => {
    const model = new BatchModel(table, parameters);
    check(
      fc.property(
        fc.array(fc.boolean(), { minLength: 1, maxLength: 200 }),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 200 }),
        (first, second) => {
          const both = planFromMask([...first, ...new Array<boolean>(2).fill(false), ...second]);
          const before = model.estimatePlanNs(planFromMask(first), 1792);
          expect(model.estimatePlanNs(both, 1792)).toBeGreaterThanOrEqual(before);
        },
      ),
    );
  });

  test("copies its parameters, checks them, and gives the same answer again", () => {
    const latencyNs = [...parameters.unloaded.latencyNs];
    const model = new BatchModel(table, {
      ...parameters,
      unloaded: { ...parameters.unloaded, latencyNs },
    });
    const plan = planFromRows([0, 1, 2, 50, 99]);
    const before = model.estimatePlanNs(plan, 1792);
    latencyNs[0] = 1;
    model.estimatePlanNs(planFromRows(Array.from({ length: 900 }, (_, i) => 3 * i)), 1792);
    expect(model.estimatePlanNs(plan, 1792)).toBe(before);
    expect(model.parameters).toEqual(parameters);
    expectError(
      () => new BatchModel(table, { ...parameters, lanes: 0 }),
      "INVALID_PROFILE",
      "batchModel.lanes",
    );
    expectError(() => model.estimatePlanNs(plan, 0), "INVALID_ARGUMENT", "rowBytes");
  });
});

/** Runs of 1 to 40 rows with gaps of as much: batches of 1 to 300 chunks. */
function somePlans(seed: number, count: number): ChunkPlan[] {
  const random = seededRandom(seed);
  const upTo = (most: number): number => 1 + Math.floor(random() * most);
  return Array.from({ length: count }, () => {
    const chunkCount = Math.ceil(300 ** random());
    const starts = new Uint32Array(chunkCount);
    const lengths = Uint32Array.from(starts, () => upTo(40));
    for (let c = 1; c < chunkCount; c++) starts[c] = starts[c - 1] + lengths[c - 1] + upTo(40);
    return { starts, lengths, chunkCount };
  });
}

const ROW_BYTES = [896, 1792, 7168, 37888];

function observations(
  truth: BatchModelParameters,
  seed: number,
  count: number,
  disturb: (index: number) => number = () => 1,
): BatchObservation[] {
  const model = new BatchModel(table, truth);
  return somePlans(seed, count).map((plan, index) => {
    const rowBytes = ROW_BYTES[index % ROW_BYTES.length];
    return { plan, rowBytes, measuredNs: model.estimatePlanNs(plan, rowBytes) * disturb(index) };
  });
}

/** Largest relative difference of two models' estimates over plans that neither was fitted to. */
function largestDifference(a: BatchModelParameters, b: BatchModelParameters): number {
  const [first, second] = [new BatchModel(table, a), new BatchModel(table, b)];
  const differences = somePlans(SEED + 1, 200).map((plan, index) => {
    const rowBytes = ROW_BYTES[index % ROW_BYTES.length];
    return Math.abs(
      first.estimatePlanNs(plan, rowBytes) / second.estimatePlanNs(plan, rowBytes) - 1,
    );
  });
  return Math.max(...differences);
}

const none = { fixedNs: 0, laneWeight: 0, perRequestNs: 0, stragglerNs: 0 };

describe("fit of the batch model", () => {
  test("P5: finds the parameters behind undisturbed observations", () => {
    console.log(`seed ${SEED}`);
    const fitted = fitBatchModel(observations(parameters, SEED, 120), table, parameters);
    expect(fitted.lanes).toBe(parameters.lanes);
    for (const key of [
      "fixedNs",
      "sumWeight",
      "laneWeight",
      "perRequestNs",
      "stragglerNs",
    ] as const) {
      expect(fitted[key]! / parameters[key]!).toBeCloseTo(1, 4);
    }
    expect(fitted).toMatchObject({ readThroughBytes: 2000, maxRequestBytes: 300_000 });
  });

  test("P5: one slow batch in eight, as on a shared machine, moves it little", () => {
    console.log(`seed ${SEED}`);
    const random = seededRandom(SEED);
    const disturbed = observations(parameters, SEED, 160, (index) =>
      index % 8 === 0 ? 2 + 10 * random() : 0.99 + 0.02 * random(),
    );
    expect(largestDifference(fitBatchModel(disturbed, table, parameters), parameters)).toBeLessThan(
      0.06,
    );
  });

  test("P5: a device that is only the sum gets no other term", () => {
    const sum = { ...parameters, ...none, sumWeight: 1.7 };
    const fitted = fitBatchModel(observations(sum, SEED, 40), table, parameters);
    expect(fitted).toMatchObject({ lanes: 1, ...none });
    expect(fitted.sumWeight).toBeCloseTo(1.7, 9);
  });

  test("plans that are all alike give the calibrated plain sum", () => {
    const alike = Array.from({ length: 20 }, () => ({
      ...{ plan: planFromRows([0, 1, 5]), rowBytes: 7168, measuredNs: 123_456 },
    }));
    const fitted = fitBatchModel(alike, table, parameters);
    expect(fitted).toMatchObject({ lanes: 1, ...none });
    const model = new BatchModel(table, fitted);
    expect(model.estimatePlanNs(planFromRows([0, 1, 5]), 7168)).toBeCloseTo(123_456, 3);
  });

  test("plans of one chunk each, whose busiest lane is the same for any lanes, take one lane", () => {
    const single = Array.from({ length: 30 }, (_, index) => ({
      plan: planFromRows(Array.from({ length: index + 1 }, (__, row) => row)),
      rowBytes: 7168,
      measuredNs: 50_000 + unloadedNs((index + 1) * 7168),
    }));
    expect(fitBatchModel(single, table, parameters).lanes).toBe(1);
  });

  test("unloaded times that decrease, as measurements do, are made monotone", () => {
    const noisy = { sizesBytes: [4096, 8192, 16384], latencyNs: [90_000, 80_000, 100_000] };
    const fitted = fitBatchModel(observations(parameters, SEED, 40), table, {
      ...parameters,
      unloaded: noisy,
    });
    expect(fitted.unloaded.latencyNs).toEqual([85_000, 85_000, 100_000]);
  });

  const few = observations(parameters, 1, MIN_BATCH_OBSERVATIONS);
  const first = (change: Partial<BatchObservation>): BatchObservation[] => [
    { ...few[0], ...change },
    ...few.slice(1),
  ];

  test("accepts as few observations as it says", () => {
    expect(fitBatchModel(few, table, parameters).unloaded).toEqual(parameters.unloaded);
  });

  test.each([
    ["too few", few.slice(1), "observations"],
    ["none", [], "observations"],
    ["a time of 0", first({ measuredNs: 0 }), "observations[0].measuredNs"],
    ["a time of NaN", first({ measuredNs: NaN }), "observations[0].measuredNs"],
    ["an empty plan", first({ plan: planFromRows([]) }), "observations[0].plan"],
    ["no row size", first({ rowBytes: 0 }), "rowBytes"],
  ])("refuses observations: %s", (_, refused, path) => {
    expectError(() => fitBatchModel(refused, table, parameters), "INVALID_ARGUMENT", path);
  });

  test("refuses fixed parts that are no model's", () => {
    expectError(
      () => fitBatchModel(few, table, { ...parameters, maxRequestBytes: 0 }),
      "INVALID_PROFILE",
      "batchModel.maxRequestBytes",
    );
    const unloaded = { sizesBytes: [4096], latencyNs: [1, 2] };
    expectError(
      () => fitBatchModel(few, table, { ...parameters, unloaded }),
      "INVALID_PROFILE",
      "batchModel.unloaded.latencyNs",
    );
  });
});
