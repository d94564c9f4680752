import { join } from "node:path";
import type { ReaderTuning } from "@neuron-chunking/latency-model";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { rejection, temporaryDirectory, withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
writeNoise(path, 100_000);

const MEASURED: ReaderTuning = {
  backend: "pool",
  queueDepth: 37,
  threads: 5,
  maxBytesInFlight: 777_777,
  submitBatch: 9,
  maxRequestBytes: 262_144,
  readThroughBytes: 12_345,
};

describe("R4: tuning", () => {
  it("of a profile is what the reader works with, backend included", async () => {
    await withReader(path, { tuning: MEASURED }, async (reader) => {
      expect(reader.tuning).toEqual(MEASURED);
      expect(reader.backend).toMatchObject({ name: "pool", refused: [] });
      await Promise.resolve();
    });
  });

  it("is complete and moderate without a profile", async () => {
    await withReader(path, {}, async ({ tuning }) => {
      expect(Object.keys(tuning).sort()).toEqual(Object.keys(MEASURED).sort());
      expect(tuning.submitBatch).toBeLessThanOrEqual(tuning.queueDepth);
      expect(tuning.maxBytesInFlight).toBeGreaterThanOrEqual(tuning.maxRequestBytes);
      await Promise.resolve();
    });
  });

  it("of which a part is given takes defaults for the rest", async () => {
    await withReader(path, { tuning: { queueDepth: 2 } }, async ({ tuning }) => {
      expect(tuning.queueDepth).toBe(2);
      expect(tuning.submitBatch).toBeLessThanOrEqual(2);
      await Promise.resolve();
    });
  });

  it("yields to an explicit backend", async () => {
    const options = { backend: "pool", tuning: { backend: "io_uring" } } as const;
    await withReader(path, options, async (reader) => {
      expect(reader.backend.name).toBe("pool");
      await Promise.resolve();
    });
  });

  it.each([
    ["backend", "threads"],
    ["queueDepth", 0],
    ["queueDepth", 1025],
    ["queueDepth", 1.5],
    ["threads", 0],
    ["threads", 65],
    ["threads", NaN],
    ["maxBytesInFlight", 0],
    ["maxBytesInFlight", Infinity],
    ["submitBatch", 0],
    ["submitBatch", 65],
    ["maxRequestBytes", 4095],
    ["maxRequestBytes", 2 ** 31],
    ["readThroughBytes", -1],
    ["readThroughBytes", "8192"],
  ])("%s %s is refused by name", async (field, value) => {
    const tuning = { queueDepth: 64, [field]: value };
    const error = await rejection(FlashReader.open(path, { tuning }));
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.message).toContain(`tuning.${field}`);
    expect(error.message).toContain(String(value));
  });
});
