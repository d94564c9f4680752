import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import type { ByteRanges } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { firstWrongView, scattered, temporaryDirectory, testSeed } from "./support.js";
import { toRanges, withReader, writeNoise } from "./support.js";

const directory = temporaryDirectory();
const path = join(directory, "data.bin");
const SIZE_BYTES = 4_000_123;
const file = writeNoise(path, SIZE_BYTES);

describeEachBackend("R7: reading", (options) => {
  it("gives the bytes of fs.readFileSync for any ranges in any order", async () => {
    expect(readFileSync(path).equals(file)).toBe(true);
    const pair = fc
      .tuple(fc.nat(SIZE_BYTES - 1), fc.integer({ min: 1, max: 70_000 }))
      .map(([offset, length]) => [offset, Math.min(length, SIZE_BYTES - offset)] as const);
    await withReader(path, options, (reader) =>
      fc.assert(
        fc.asyncProperty(fc.array(pair, { maxLength: 80 }), async (pairs) => {
          const ranges = toRanges(pairs);
          const result = await reader.read(ranges);
          expect(result.count).toBe(pairs.length);
          expect(firstWrongView(result, ranges, file)).toBe(-1);
        }),
        { seed: testSeed(), numRuns: 60 },
      ),
    );
  });

  it("reads plans of unaligned 1792-byte rows", async () => {
    const rowBytes = 1792;
    const baseOffsetBytes = 12_288 + 100;
    const rows = Math.floor((SIZE_BYTES - baseOffsetBytes) / rowBytes);
    const chunks = fc.uniqueArray(fc.nat(rows - 1), { minLength: 2, maxLength: 120 });
    await withReader(path, options, (reader) =>
      fc.assert(
        fc.asyncProperty(chunks, async (cuts) => {
          const sorted = cuts.sort((a, b) => a - b);
          // Every other gap between cuts is a chunk.
          const chunkCount = sorted.length >> 1;
          const starts = Uint32Array.from({ length: chunkCount }, (_, i) => sorted[2 * i]);
          const lengths = starts.map((start, i) => sorted[2 * i + 1] - start);
          const plan = { starts, lengths, chunkCount };
          const layout = { baseOffsetBytes, rowBytes };
          const into = reader.allocate(reader.landingBytesForPlan(plan, layout));
          const result = await reader.readPlan(plan, layout, { into });
          for (let i = 0; i < chunkCount; i++) {
            const from = baseOffsetBytes + starts[i] * rowBytes;
            const expected = file.subarray(from, from + lengths[i] * rowBytes);
            expect(expected.equals(result.view(i))).toBe(true);
          }
          expect(result.bytes).toBe(into.bytes);
          const wanted = lengths.reduce((sum, length) => sum + length * rowBytes, 0);
          expect(result.bytesWanted).toBe(wanted);
        }),
        { seed: testSeed(), numRuns: 40 },
      ),
    );
  });

  it("reads thousands of chunks in one plan, and lists them again from the same memory", async () => {
    const chunkCount = 5000;
    const plan = {
      starts: Uint32Array.from({ length: chunkCount }, (_, i) => 4 * i + (i % 3)),
      lengths: new Uint32Array(chunkCount).fill(1),
      chunkCount,
    };
    const layout = { baseOffsetBytes: 77, rowBytes: 190 };
    await withReader(path, options, async (reader) => {
      const into = reader.allocate(reader.landingBytesForPlan(plan, layout));
      for (let round = 0; round < 3; round++) {
        const result = await reader.readPlan(plan, layout, { into });
        for (let i = 0; i < chunkCount; i++) {
          const from = 77 + plan.starts[i] * 190;
          if (!file.subarray(from, from + 190).equals(result.view(i))) {
            expect.fail(`chunk ${i} is wrong`);
          }
        }
      }
    });
  });

  it("reads up to the very end of the file, and every small file whole", async () => {
    await withReader(path, options, async (reader) => {
      for (const length of [1, 122, 123, 124, 511, 512, 513, 4096, 5000]) {
        const result = await reader.read(toRanges([[SIZE_BYTES - length, length]]));
        expect(file.subarray(SIZE_BYTES - length).equals(result.view(0))).toBe(true);
      }
      const whole = await reader.read(toRanges([[0, SIZE_BYTES]]));
      expect(file.equals(whole.view(0))).toBe(true);
      expect(whole.bytesRead).toBe(SIZE_BYTES);
    });
    for (const size of [1, 511, 512, 513, 4096, 4097]) {
      const small = join(directory, `small-${size}.bin`);
      const bytes = writeNoise(small, size, size);
      const reader = await FlashReader.open(small, options);
      expect(bytes.equals((await reader.read(toRanges([[0, size]]))).view(0))).toBe(true);
      await reader.close();
    }
  });

  it("runs many batches at once", async () => {
    await withReader(
      path,
      { ...options, tuning: { threads: 3, queueDepth: 12 } },
      async (reader) => {
        const batches: ByteRanges[] = Array.from({ length: 60 }, (_, i) =>
          scattered(reader, 40, 1 + 137 * i, i),
        );
        const results = await Promise.all(batches.map((ranges) => reader.read(ranges)));
        results.forEach((result, i) => {
          expect(firstWrongView(result, batches[i], file)).toBe(-1);
        });
        const stats = reader.stats();
        expect(stats.batches).toBe(60);
        expect(stats.bytesWanted).toBe(results.reduce((sum, r) => sum + r.bytesWanted, 0));
        expect(stats.bytesRead).toBe(results.reduce((sum, r) => sum + r.bytesRead, 0));
        expect(stats.requests).toBe(results.reduce((sum, r) => sum + r.requests, 0));
        expect(stats).toMatchObject({ errors: 0, bytesInFlight: 0 });
      },
    );
  });

  it("R2: does so at every depth, batch and number of threads", async () => {
    const settings = fc.record({
      queueDepth: fc.integer({ min: 1, max: 70 }),
      batch: fc.integer({ min: 1, max: 70 }),
      threads: fc.integer({ min: 1, max: 12 }),
      maxBytesInFlight: fc.constantFrom(1, 4096, 100_000, 1 << 22),
      maxRequestBytes: fc.constantFrom(4096, 5000, 65_536, 1 << 20),
    });
    await fc.assert(
      fc.asyncProperty(settings, fc.nat(), async ({ batch, ...tuning }, seed) => {
        const submitBatch = Math.min(batch, tuning.queueDepth);
        const all = { ...options, tuning: { ...tuning, submitBatch } };
        await withReader(path, all, async (reader) => {
          const batches = [1, 7000, 40_000].map((length, i) =>
            scattered(reader, 30, length, seed + i),
          );
          const results = await Promise.all(batches.map((ranges) => reader.read(ranges)));
          results.forEach((result, i) => {
            expect(firstWrongView(result, batches[i], file)).toBe(-1);
          });
        });
      }),
      { seed: testSeed(), numRuns: 15 },
    );
  });
});

describe("results", () => {
  it("an empty read is empty", async () => {
    await withReader(path, {}, async (reader) => {
      const result = await reader.read(toRanges([]));
      expect(result).toMatchObject({ count: 0, bytesRead: 0, bytesWanted: 0, requests: 0 });
      expect(() => result.view(0)).toThrow(RangeError);
    });
  });

  it("keep their views when the caller's arrays change", async () => {
    await withReader(path, {}, async (reader) => {
      const plan = { starts: Uint32Array.of(3), lengths: Uint32Array.of(5), chunkCount: 1 };
      const pending = reader.readPlan(plan, { baseOffsetBytes: 0, rowBytes: 1000 });
      plan.starts[0] = 900;
      plan.lengths[0] = 1;
      const result = await pending;
      expect(file.subarray(3000, 8000).equals(result.view(0))).toBe(true);
    });
  });

  it("overlapping ranges are read once", async () => {
    await withReader(path, { directIo: "disabled" }, async (reader) => {
      const result = await reader.read(
        toRanges([
          [1000, 500],
          [0, 2000],
          [1000, 500],
          [1999, 2],
        ]),
      );
      expect(result.bytesRead).toBe(2001);
      expect(result.bytesWanted).toBe(3002);
    });
  });
});
