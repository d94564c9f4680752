import { describe, expect, test } from "vitest";
import {
  BatchModel,
  estimatePlanNs,
  LatencyTable,
  planFromRows,
  requestTable,
  simulatedDevice,
  type BatchModelParameters,
} from "../src/index.js";

const KIB = 1024;
const profile = simulatedDevice("nvme-gen4");
const parameters: BatchModelParameters = {
  lanes: 8,
  fixedNs: 30_000,
  sumWeight: 0.8,
  laneWeight: 0.4,
  perRequestNs: 700,
  stragglerNs: 0,
  // Proportional, so that evenly filled lanes are all equally busy.
  unloaded: { sizesBytes: [4 * KIB, 128 * KIB], latencyNs: [80_000, 120_000] },
  readThroughBytes: 0,
  maxRequestBytes: 128 * KIB,
};
const table = requestTable({ ...profile, batchModel: parameters });

describe("request table", () => {
  test("without a batch model it is the profile's own", () => {
    const plain = new LatencyTable(profile);
    for (const size of [1, 4, 5, 100, 240, 1000]) {
      expect(requestTable(profile).latencyNs(size * KIB)).toBe(plain.latencyNs(size * KIB));
    }
  });

  test.each([4, 16, 64, 128])(
    "chunks of %d KiB, as many as fill the lanes, cost the batch model's sum",
    (kib) => {
      // 64 chunks with a row between them: eight for each of the eight lanes.
      const rows = Array.from({ length: 64 }, (_, chunk) => 2 * chunk);
      const plan = planFromRows(rows);
      const batchNs = new BatchModel(new LatencyTable(profile), parameters).estimatePlanNs(
        plan,
        kib * KIB,
      );
      const sumNs = estimatePlanNs(plan, kib * KIB, table);
      expect(parameters.fixedNs + sumNs).toBeCloseTo(batchNs, 3);
    },
  );

  test("a chunk longer than the longest request costs as many of those", () => {
    const oneNs = table.latencyNs(128 * KIB);
    expect(table.latencyNs(512 * KIB)).toBeCloseTo(4 * oneNs, 6);
    expect(table.saturationBytes).toBe(128 * KIB);
  });
});
