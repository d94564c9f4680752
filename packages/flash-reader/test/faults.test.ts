import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { BACKENDS, describeEachBackend } from "./backends.js";
import { effort, firstWrongView, rejection, scattered, temporaryDirectory } from "./support.js";
import { testSeed, toRanges, writeNoise } from "./support.js";

type Faults = Omit<NonNullable<Parameters<typeof FlashReader.openWithFaults>[2]>, "seed">;

const path = join(temporaryDirectory(), "data.bin");
const file = writeNoise(path, 1_000_003);

/** Rates are in 1/65536. After these, a read goes on. */
const PASSING: Faults = {
  shortRead: 8000,
  interrupted: 3000,
  again: 500,
  noMemory: 500,
  delay: 200,
  enter: 6000,
};
const ALWAYS = 65535;
const FIELDS_OF_FAILURE = { path, offsetBytes: 8192, lengthBytes: 4096 };

describeEachBackend("faults at the system-call boundary", (options) => {
  const open = (faults: Faults, seed = testSeed() >>> 0) =>
    FlashReader.openWithFaults(
      path,
      { ...options, tuning: { queueDepth: 16, submitBatch: 5 } },
      { seed, ...faults },
    );

  it("R12: zero wrong bytes in thousands of reads among faults that pass", async () => {
    const seed = testSeed() >>> 0;
    const reader = await open(PASSING, seed);
    const rounds = effort(40, 1000);
    for (let i = 0; i < rounds; i++) {
      const ranges = scattered(reader, 50, 1 + ((997 * i) % 9000), seed + i);
      const result = await reader.read(ranges);
      expect(firstWrongView(result, ranges, file), `seed ${seed}, round ${i}`).toBe(-1);
    }
    expect(reader.stats().retries).toBeGreaterThan(0);
    expect(reader.stats().errors).toBe(0);
    await reader.close();
  });

  it("R12: right bytes or a typed error, never wrong bytes, among faults of every kind", async () => {
    const seed = testSeed() >>> 0;
    const fatal = { zero: 60, ioError: 60, noDevice: 60 };
    const reader = await open({ ...PASSING, ...fatal }, seed);
    const rounds = effort(60, 1000);
    const failed = new Map<string, number>();
    for (let i = 0; i < rounds; i++) {
      // Four at once, so that one that fails has neighbours.
      const batches = [0, 1, 2, 3].map((k) => scattered(reader, 15, 3000, seed + 4 * i + k));
      const outcomes = await Promise.allSettled(batches.map((ranges) => reader.read(ranges)));
      outcomes.forEach((outcome, k) => {
        if (outcome.status === "fulfilled") {
          expect(firstWrongView(outcome.value, batches[k], file), `seed ${seed}`).toBe(-1);
          return;
        }
        const { code, errno } = outcome.reason as { code: string; errno?: string };
        const kind = `${code} ${errno ?? ""}`.trim();
        expect(["TRUNCATED", "IO_ERROR EIO", "IO_ERROR ENODEV"], `seed ${seed}`).toContain(kind);
        expect(outcome.reason).toMatchObject({
          path,
          offsetBytes: expect.any(Number) as number,
          lengthBytes: expect.any(Number) as number,
        });
        failed.set(kind, (failed.get(kind) ?? 0) + 1);
      });
    }
    expect(failed.size, `seed ${seed}`).toBeGreaterThan(0);
    expect(reader.stats().errors).toBeGreaterThan(0);
    expect(reader.stats().bytesInFlight).toBe(0);
    await reader.close();
  });

  it.each([
    ["EIO", { ioError: ALWAYS }],
    ["ENODEV", { noDevice: ALWAYS }],
  ])("R8: %s is an IO_ERROR with path, offset, length and errno", async (errno, faults) => {
    const reader = await open(faults);
    const error = await rejection(reader.read(toRanges([[8192, 4096]])));
    expect(error).toMatchObject({ code: "IO_ERROR", errno, ...FIELDS_OF_FAILURE });
    for (const part of [path, "8192", "4096", errno]) expect(error.message).toContain(part);
    expect(reader.stats().errors).toBe(1);
    await reader.close();
  });

  it.each([
    ["EINTR", { interrupted: ALWAYS }],
    ["EAGAIN", { again: ALWAYS }],
    ["ENOMEM", { noMemory: ALWAYS }],
  ])("R8: %s for ever ends as an error after a number of retries", async (errno, faults) => {
    const reader = await open(faults);
    const error = await rejection(reader.read(toRanges([[8192, 4096]])));
    expect(error).toMatchObject({ code: "IO_ERROR", errno, ...FIELDS_OF_FAILURE });
    expect(reader.stats().retries).toBeGreaterThan(3);
    await reader.close();
  });

  it("R8: zero bytes from an unchanged file is TRUNCATED", async () => {
    const reader = await open({ zero: ALWAYS });
    const error = await rejection(reader.read(toRanges([[8192, 4096]])));
    expect(error).toMatchObject({ code: "TRUNCATED", ...FIELDS_OF_FAILURE });
    await reader.close();
  });

  it("R8: after a failed read its landing buffer is free, and the next read is right", async () => {
    const seed = testSeed() >>> 0;
    const reader = await open({ ioError: 3000 }, seed);
    const ranges = scattered(reader, 40, 4096, seed);
    const into = reader.allocate(reader.landingBytes(ranges));
    let failed = 0;
    let right = 0;
    for (let i = 0; i < 60; i++) {
      try {
        const result = await reader.read(ranges, { into });
        expect(firstWrongView(result, ranges, file), `seed ${seed}`).toBe(-1);
        right++;
      } catch (error) {
        expect(error, `seed ${seed}`).toMatchObject({ code: "IO_ERROR", errno: "EIO" });
        failed++;
      }
      expect(into.busy).toBe(false);
    }
    expect(failed, `seed ${seed}`).toBeGreaterThan(0);
    expect(right, `seed ${seed}`).toBeGreaterThan(0);
    await reader.close();
  });
});

const ring = BACKENDS.find(({ name }) => name === "io_uring direct");

describe.skipIf(ring?.refusal !== undefined)("R5: a ring that the kernel ends", () => {
  it.each([0, 1, 3, 10, 30])("after %i calls hands over to the pool", async (calls) => {
    const seed = testSeed() >>> 0;
    const tuning = { queueDepth: 8, submitBatch: 3 };
    // The plan's 0 means never, hence one call more.
    const faults = { seed, uringLostAfter: calls + 1, shortRead: 3000 };
    const reader = await FlashReader.openWithFaults(path, { tuning }, faults);
    expect(reader.backend).toMatchObject({ tier: "io_uring-direct", refused: [] });
    for (let i = 0; i < 15; i++) {
      const batches = [0, 1, 2].map((k) => scattered(reader, 20, 5000, seed + 3 * i + k));
      const results = await Promise.all(batches.map((ranges) => reader.read(ranges)));
      results.forEach((result, k) => {
        expect(firstWrongView(result, batches[k], file), `seed ${seed}`).toBe(-1);
      });
    }
    expect(reader.backend).toEqual({
      name: "pool",
      directIo: true,
      tier: "pool-direct",
      refused: [
        {
          tier: "io_uring-direct",
          reason: expect.stringContaining("stopped serving") as string,
          errno: "EPERM",
        },
      ],
    });
    expect(reader.stats()).toMatchObject({ errors: 0, bytesInFlight: 0, batches: 45 });
    await reader.close();
    expect(reader.backend.name).toBe("pool");
  });

  it("says so of a buffered one, too", async () => {
    const options = { backend: "io_uring", directIo: "disabled" } as const;
    const faults = { seed: 1, uringLostAfter: 1 };
    const reader = await FlashReader.openWithFaults(path, options, faults);
    for (let i = 0; i < 3; i++) {
      const ranges = scattered(reader, 20, 5000, i);
      expect(firstWrongView(await reader.read(ranges), ranges, file)).toBe(-1);
    }
    expect(reader.backend).toMatchObject({
      tier: "pool-buffered",
      refused: [{ tier: "io_uring-buffered", errno: "EPERM" }],
    });
    await reader.close();
  });
});
