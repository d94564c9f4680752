import { join } from "node:path";
import { expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { BACKENDS, describeEachBackend } from "./backends.js";
import { resultOf, runScript } from "./child.js";
import { firstWrongView, scattered, temporaryDirectory, toRanges } from "./support.js";
import { withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
const file = writeNoise(path, 8 << 20);
const BATCHES = 4000;
/** Results that Node.js hands over in one turn of the event loop at most, where new ones come as fast as they are taken. */
const RESULTS_PER_TURN = 1000;

describeEachBackend("R2: the event loop", (options) => {
  it(`turns while ${BATCHES} batches are read`, async () => {
    await withReader(path, options, async (reader) => {
      const ranges = scattered(reader, 32, 4096, 1);
      const landings = [0, 1, 2, 3].map(() => reader.allocate(reader.landingBytes(ranges)));
      let left = BATCHES;
      const chains = landings.map(async (into) => {
        while (left-- > 0) {
          const result = await reader.read(ranges, { into });
          if (left % 50 === 0) expect(firstWrongView(result, ranges, file)).toBe(-1);
        }
      });
      let isDone = false;
      const all = Promise.all(chains).finally(() => (isDone = true));
      let turns = 0;
      while (!isDone) {
        await new Promise((resolve) => setImmediate(resolve));
        turns++;
      }
      await all;
      expect(reader.stats().batches).toBe(BATCHES);
      // However fast the reads are, and however busy the machine is.
      expect(turns).toBeGreaterThanOrEqual(BATCHES / RESULTS_PER_TURN - 1);
    });
  });

  it("turns while one batch is slow", async () => {
    const tuning = { threads: 1, queueDepth: 1 };
    // Many transfers are refused for the moment, so that the reads take a while on any machine.
    const faults = { seed: 1, again: 16_000 };
    const reader = await FlashReader.openWithFaults(path, { ...options, tuning }, faults);
    let isDone = false;
    const reads = Promise.all(
      [0, 1, 2, 3].map((i) => reader.read(scattered(reader, 150, 2000, i))),
    ).finally(() => (isDone = true));
    let turns = 0;
    while (!isDone) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    await reads;
    expect(turns).toBeGreaterThan(3);
    await reader.close();
  });

  it("has nothing growing on it after thousands of batches", async () => {
    interface Measured {
      heapUsed: number;
      external: number;
      threads: number;
      files: number;
      rings: number;
      events: number;
      active: string[];
    }
    const { wrong, before, after } = await resultOf<{
      wrong: number;
      before: Measured;
      after: Measured;
    }>(runScript("growth.mjs", path, options));
    expect(wrong).toBe(0);
    const { heapUsed, external, ...counts } = after;
    const { heapUsed: heapBefore, external: externalBefore, ...countsBefore } = before;
    expect(counts).toEqual(countsBefore);
    // A leak of 500 bytes a batch would be 1.2 MB; the rest is what V8 keeps for itself.
    expect(heapUsed - heapBefore).toBeLessThan(1 << 20);
    expect(external - externalBefore).toBeLessThan(1 << 18);
  });
});

const ring = BACKENDS.find(({ name }) => name === "io_uring direct");

it.skipIf(ring?.refusal !== undefined)(
  "R2: 256 reads of 4 KiB take at most 20 calls of io_uring_enter",
  async () => {
    await withReader(path, { backend: "io_uring" }, async (reader) => {
      const ranges = toRanges(Array.from({ length: 256 }, (_, i) => [i * 32_768, 4096] as const));
      const calls: number[] = [];
      for (let i = 0; i < 10; i++) {
        const before = reader.stats().enterCalls;
        const result = await reader.read(ranges);
        expect(result.requests).toBe(256);
        calls.push(reader.stats().enterCalls - before);
      }
      calls.sort((a, b) => a - b);
      console.log(`enter calls per batch: ${calls.join(" ")}`);
      // Some are interrupted, or share their time with other processes; not all of them.
      expect(calls[2]).toBeLessThanOrEqual(20);
    });
    await withReader(path, { backend: "pool" }, async (reader) => {
      await reader.read(toRanges([[0, 4096]]));
      expect(reader.stats().enterCalls).toBe(0);
    });
  },
);
