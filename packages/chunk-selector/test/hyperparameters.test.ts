import {
  LatencyModelError,
  LatencyTable,
  simulatedDevice,
  type DeviceProfile,
  type SimulatedDeviceName,
} from "@neuron-chunking/latency-model";
import { describe, expect, test } from "vitest";
import { defaultHyperparameters, PAPER_HYPERPARAMETERS, windowRows } from "../src/index.js";
import { expectError } from "./expect-error.js";

/** The paper's Table 2 as printed: shape, then s_min/jump cap in KB on AGX Orin and on Orin Nano. */
const TABLE_2 = `
  3584x3584 20/20 24/36     18944x3584 32/32 36/36    8960x1536 16/16 20/20   1536x1536 16/12 16/12
  896x4864 8/8 8/8          1536x256 8/8 8/8          4096x1024 12/12 16/16   896x128 8/8 8/8
  3584x18944 8/8 8/8        14336x4096 32/32 40/36    4096x4096 20/20 24/24   4864x896 12/16 20/16
  4096x14336 8/8 8/8        3584x512 8/12 8/12        1536x8960 8/8 8/8       896x896 8/8 8/8
`;
const CELLS = Array.from(
  TABLE_2.matchAll(/(\d+)x(\d+) (\d+)\/(\d+) (\d+)\/(\d+)/g),
  ([, ...numbers]) => numbers.map(Number),
);

describe("the paper's Table 2", () => {
  test("has 16 shapes, all of them here", () => {
    expect(CELLS.length).toBe(16);
    expect(PAPER_HYPERPARAMETERS.length).toBe(16);
  });

  test.each(CELLS)("%dx%d: AGX %d/%d, Nano %d/%d", (...cell) => {
    const [rows, cols, agxMin, agxJump, nanoMin, nanoJump] = cell;
    const agx = { minKiB: agxMin, stepKiB: agxMin, maxKiB: 236, jumpKiB: agxJump };
    const nano = { minKiB: nanoMin, stepKiB: nanoMin, maxKiB: 348, jumpKiB: nanoJump };
    expect(defaultHyperparameters({ rows, cols })).toEqual(agx);
    expect(defaultHyperparameters({ rows, rowBytes: 2 * cols })).toEqual(agx);
    expect(defaultHyperparameters({ rows, cols, device: "orin-agx" })).toEqual(agx);
    expect(defaultHyperparameters({ rows, cols, device: "orin-nano" })).toEqual(nano);
    const table = new LatencyTable(simulatedDevice("orin-nano"));
    expect(defaultHyperparameters({ rows, cols, table })).toEqual(nano);
  });
});

describe("shapes and devices that the table lacks", () => {
  const measured = (saturationKib: number): LatencyTable => {
    const profile: DeviceProfile = {
      schemaVersion: 1,
      name: "some disk",
      origin: "measured",
      source: "test",
      table: { sizesBytes: [1024, saturationKib * 1024], latencyNs: [1000, 2000] },
      saturationBytes: saturationKib * 1024,
      tailNsPerByte: 0.2,
    };
    return new LatencyTable(profile);
  };

  test.each([
    ["q, k and v of a 7B model, bundled", 3584, 4608, 20],
    ["gate and up of a 7B model, bundled", 3584, 37_888, 8],
    ["gate and up of a 0.5B model, bundled", 896, 9728, 8],
    ["a little more than a listed shape", 18_950, 3600, 32],
    ["a tiny model", 64, 64, 8],
  ])("%s: the nearest by rows and row width", (_, rows, cols, minKiB) => {
    expect(defaultHyperparameters({ rows, cols }).minKiB).toBe(minKiB);
  });

  test("only bytes count: 32-bit weights are rows of twice as many columns", () => {
    expect(defaultHyperparameters({ rows: 3584, cols: 1792, rowBytes: 7168 })).toEqual(
      defaultHyperparameters({ rows: 3584, cols: 3584 }),
    );
  });

  test("s_max is the device's own saturation size", () => {
    const shape = { rows: 3584, cols: 3584 };
    expect(defaultHyperparameters({ ...shape, device: "nvme-gen4" }).maxKiB).toBe(240);
    expect(defaultHyperparameters({ ...shape, table: measured(512) }).maxKiB).toBe(512);
  });

  test("the column is that of the paper's device with the nearer saturation size", () => {
    const shape = { rows: 3584, cols: 3584 };
    expect(defaultHyperparameters({ ...shape, table: measured(286) }).minKiB).toBe(20);
    expect(defaultHyperparameters({ ...shape, table: measured(287) }).minKiB).toBe(24);
    expect(defaultHyperparameters({ ...shape, device: "nvme-gen4" }).minKiB).toBe(20);
  });

  test("a device that saturates below the tuned sizes bounds them", () => {
    expect(defaultHyperparameters({ rows: 18_944, cols: 3584, table: measured(12) })).toEqual({
      minKiB: 12,
      stepKiB: 12,
      maxKiB: 12,
      jumpKiB: 12,
    });
  });

  test("bad queries are refused", () => {
    const query = (shape: { rows: number; cols?: number; rowBytes?: number }) => (): unknown =>
      defaultHyperparameters(shape);
    expectError(query({ rows: 0, cols: 4 }), "INVALID_REQUEST", "rows");
    expectError(query({ rows: 4 }), "INVALID_REQUEST", "cols");
    expectError(query({ rows: 4, cols: 0 }), "INVALID_REQUEST", "cols");
    expectError(query({ rows: 4, rowBytes: NaN }), "INVALID_REQUEST", "rowBytes");
    const device = "floppy" as SimulatedDeviceName;
    expect(() => defaultHyperparameters({ rows: 4, cols: 4, device })).toThrow(LatencyModelError);
  });
});

describe("KiB to rows", () => {
  test.each([
    [7168, { minRows: 4, stepRows: 4, maxRows: 33, jumpRows: 4 }],
    [1024, { minRows: 32, stepRows: 32, maxRows: 236, jumpRows: 32 }],
    [37_888, { minRows: 1, stepRows: 1, maxRows: 6, jumpRows: 1 }],
    [1_000_000, { minRows: 1, stepRows: 1, maxRows: 1, jumpRows: 1 }],
  ])("32 / 32 / 236 KiB of %d-byte rows", (rowBytes, expected) => {
    const hyperparameters = { minKiB: 32, stepKiB: 32, maxKiB: 236, jumpKiB: 32 };
    expect(windowRows(hyperparameters, rowBytes)).toEqual(expected);
  });
});
