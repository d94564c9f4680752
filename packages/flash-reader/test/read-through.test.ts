import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { firstWrongView, temporaryDirectory, testSeed, toRanges } from "./support.js";
import { withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
const SIZE_BYTES = 3_000_017;
const file = writeNoise(path, SIZE_BYTES);
const READ_THROUGH_BYTES = 16_384;

/** Ranges in ascending order with gaps of all sizes around the limit. */
const wanted = fc
  .array(fc.tuple(fc.nat(2 * READ_THROUGH_BYTES), fc.integer({ min: 1, max: 30_000 })), {
    minLength: 1,
    maxLength: 60,
  })
  .map((steps) => {
    let at = 0;
    return steps.map(([gap, length]) => {
      const offset = at + gap;
      at = offset + length;
      return [offset, length] as const;
    });
  })
  .map((pairs) => pairs.filter(([offset, length]) => offset + length <= SIZE_BYTES));

const bytesOf = (pairs: readonly (readonly [number, number])[]) =>
  pairs.reduce((sum, [, length]) => sum + length, 0);

describeEachBackend("R3: gaps read through", (options) => {
  const tuned = { ...options, tuning: { readThroughBytes: READ_THROUGH_BYTES } };

  it("give the same views with fewer requests and at most twice the wanted bytes", async () => {
    let saved = 0;
    await withReader(path, tuned, (reader) =>
      fc.assert(
        fc.asyncProperty(wanted, async (pairs) => {
          const ranges = toRanges(pairs);
          const through = await reader.read(ranges);
          const without = await reader.read(ranges, { readThrough: false });
          expect(firstWrongView(through, ranges, file)).toBe(-1);
          expect(firstWrongView(without, ranges, file)).toBe(-1);
          const bytes = bytesOf(pairs);
          for (const result of [through, without]) expect(result.bytesWanted).toBe(bytes);
          // Whole blocks at the edges of ranges are read either way.
          expect(through.bytesRead - without.bytesRead).toBeLessThanOrEqual(bytes);
          if (reader.alignmentBytes === 1) {
            expect(without.bytesRead).toBe(bytes);
            expect(through.bytesRead).toBeLessThanOrEqual(2 * bytes);
          }
          saved += without.requests - through.requests;
        }),
        { seed: testSeed(), numRuns: 40 },
      ),
    );
    expect(saved).toBeGreaterThan(0);
  });

  it("do so for plans of unaligned rows", async () => {
    const rowBytes = 1792;
    const baseOffsetBytes = 4196;
    const rows = Math.floor((SIZE_BYTES - baseOffsetBytes) / rowBytes);
    const cuts = fc.uniqueArray(fc.nat(rows - 1), { minLength: 2, maxLength: 300 });
    await withReader(path, tuned, (reader) =>
      fc.assert(
        fc.asyncProperty(cuts, async (unsorted) => {
          const sorted = [...unsorted].sort((a, b) => a - b);
          const chunkCount = sorted.length >> 1;
          const starts = Uint32Array.from({ length: chunkCount }, (_, i) => sorted[2 * i]);
          const lengths = starts.map((start, i) => sorted[2 * i + 1] - start);
          const plan = { starts, lengths, chunkCount };
          const layout = { baseOffsetBytes, rowBytes };
          const through = await reader.readPlan(plan, layout);
          const without = await reader.readPlan(plan, layout, { readThrough: false });
          for (let i = 0; i < chunkCount; i++) {
            const from = baseOffsetBytes + starts[i] * rowBytes;
            const expected = file.subarray(from, from + lengths[i] * rowBytes);
            expect(expected.equals(through.view(i))).toBe(true);
            expect(expected.equals(without.view(i))).toBe(true);
          }
          expect(through.bytesRead - without.bytesRead).toBeLessThanOrEqual(through.bytesWanted);
        }),
        { seed: testSeed(), numRuns: 25 },
      ),
    );
  });

  // Gaps of 12,288 bytes between ranges of 16,384.
  const combed = Array.from({ length: 50 }, (_, i) => [28_672 * i, 16_384] as const);

  it("one request takes the place of many", async () => {
    await withReader(path, tuned, async (reader) => {
      const without = await reader.read(toRanges(combed), { readThrough: false });
      expect(without.requests).toBe(50);
      const through = await reader.read(toRanges(combed));
      const span = 49 * 28_672 + 16_384;
      expect(through.bytesRead).toBe(span);
      expect(through.requests).toBe(Math.ceil(span / reader.tuning.maxRequestBytes));
      expect(reader.stats().requests).toBe(without.requests + through.requests);
    });
  });

  it("a landing buffer too small for them is read into without", async () => {
    await withReader(path, tuned, async (reader) => {
      const ranges = toRanges(combed);
      const exact = reader.allocate(50 * 16_384);
      expect(exact.capacityBytes).toBeLessThan(reader.landingBytes(ranges));
      const result = await reader.read(ranges, { into: exact });
      expect(firstWrongView(result, ranges, file)).toBe(-1);
      expect(result.requests).toBe(50);
      expect(result.bytesRead).toBe(exact.capacityBytes);
      const small = reader.allocate(exact.capacityBytes - 1);
      await expect(reader.read(ranges, { into: small })).rejects.toMatchObject({
        code: "LANDING_TOO_SMALL",
      });
    });
  });

  it("none are, without a profile that says it pays", async () => {
    const reader = await FlashReader.open(path, options);
    expect((await reader.read(toRanges(combed))).requests).toBe(50);
    await reader.close();
  });
});
