import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describeEachBackend } from "./backends.js";
import { firstWrongView, rejection, scattered, temporaryDirectory } from "./support.js";
import { testSeed, toRanges, withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
const SIZE_BYTES = 4_000_123;
const file = writeNoise(path, SIZE_BYTES);

describeEachBackend("R7: landing buffers", (options) => {
  it("are page-aligned, ordinary and reusable, and hold what landingBytes says", async () => {
    await withReader(path, options, async (reader) => {
      const first = scattered(reader, 50, 5000, 1);
      const second = scattered(reader, 60, 3000, 2);
      const need = Math.max(reader.landingBytes(first), reader.landingBytes(second));
      const into = reader.allocate(need);
      expect(into.capacityBytes).toBe(need);
      expect(into.bytes.buffer).toBeInstanceOf(ArrayBuffer);
      expect(into.bytes.buffer.byteLength).toBeGreaterThan(need);
      for (const ranges of [first, second, first]) {
        expect(firstWrongView(await reader.read(ranges, { into }), ranges, file)).toBe(-1);
      }
    });
  });

  it("nothing is written beside what a read needs of them", async () => {
    await withReader(path, options, async (reader) => {
      const ranges = scattered(reader, 80, 3000, testSeed());
      const need = reader.landingBytes(ranges);
      const into = reader.allocate(need + (1 << 20));
      into.bytes.fill(0xa5);
      // The memory before the first aligned byte is ours as well.
      const all = new Uint8Array(into.bytes.buffer);
      all.fill(0xa5, 0, into.bytes.byteOffset);
      expect(firstWrongView(await reader.read(ranges, { into }), ranges, file)).toBe(-1);
      const beside = [
        ...all.subarray(0, into.bytes.byteOffset),
        ...all.subarray(into.bytes.byteOffset + need, into.bytes.byteOffset + into.capacityBytes),
      ];
      expect(beside.every((byte) => byte === 0xa5)).toBe(true);
    });
  });
});

describeEachBackend("landing buffers in one memory", (options) => {
  it("are read into side by side, each within its own bytes", async () => {
    await withReader(path, options, async (reader) => {
      const batches = [1, 2, 3].map((seed) => scattered(reader, 40, 3000, testSeed() + seed));
      const need = Math.max(...batches.map((ranges) => reader.landingBytes(ranges)));
      const before = reader.stats().landingBytes;
      const parts = reader.allocateParts(batches.length, need);
      const memory = parts[0].bytes.buffer;
      expect(reader.stats().landingBytes - before).toBe(memory.byteLength);
      let end = 0;
      for (const { bytes, capacityBytes } of parts) {
        expect(bytes.buffer).toBe(memory);
        expect(capacityBytes).toBe(need);
        expect(bytes.byteOffset).toBeGreaterThanOrEqual(end);
        end = bytes.byteOffset + capacityBytes;
      }
      const reads = batches.map((ranges, i) => reader.read(ranges, { into: parts[i] }));
      expect(parts.every(({ busy }) => busy)).toBe(true);
      const results = await Promise.all(reads);
      results.forEach((result, i) => {
        expect(firstWrongView(result, batches[i], file)).toBe(-1);
      });
    });
  });

  it("are at least one", async () => {
    await withReader(path, options, (reader) => {
      for (const count of [0, 1.5, -1]) {
        expect(() => reader.allocateParts(count, 4096)).toThrow(/above 0/);
      }
      return Promise.resolve();
    });
  });
});

describe("R13: landing buffers", () => {
  it("landingBytesBound is enough for any disjoint ranges", async () => {
    await withReader(path, {}, async (reader) => {
      fc.assert(
        fc.property(fc.uniqueArray(fc.nat(SIZE_BYTES - 1), { minLength: 2 }), (cuts) => {
          const sorted = cuts.sort((a, b) => a - b);
          const pairs = sorted
            .slice(1)
            .map((end, i) => [sorted[i], end - sorted[i]] as const)
            .filter((_, i) => i % 2 === 0);
          const ranges = toRanges(pairs);
          const wanted = pairs.reduce((sum, [, length]) => sum + length, 0);
          const span = sorted[sorted.length - 1] - sorted[0];
          const bound = reader.landingBytesBound(pairs.length, wanted, span);
          expect(reader.landingBytes(ranges)).toBeLessThanOrEqual(bound);
        }),
        { seed: testSeed() },
      );
      await Promise.resolve();
    });
  });

  it("too small, busy or foreign ones are typed errors", async () => {
    await withReader(path, {}, async (reader) => {
      const ranges = scattered(reader, 200, 9000, 3);
      const small = await rejection(reader.read(ranges, { into: reader.allocate(8192) }));
      expect(small).toMatchObject({
        code: "LANDING_TOO_SMALL",
        got: 8192,
        expected: reader.landingBytes(ranges),
      });
      const into = reader.allocate(reader.landingBytes(ranges));
      const running = reader.read(ranges, { into });
      expect(await rejection(reader.read(ranges, { into }))).toMatchObject({
        code: "LANDING_BUSY",
      });
      expect(firstWrongView(await running, ranges, file)).toBe(-1);
      const foreign = new Uint8Array(1 << 20) as never;
      expect(await rejection(reader.read(ranges, { into: foreign }))).toMatchObject({
        code: "INVALID_ARGUMENT",
      });
      for (const capacity of [-1, 1.5, NaN, 2 ** 50]) {
        expect(() => reader.allocate(capacity)).toThrow(
          expect.objectContaining({ code: "INVALID_ARGUMENT" }),
        );
      }
    });
  });

  it("cannot be transferred away by messages", async () => {
    await withReader(path, {}, async (reader) => {
      const into = reader.allocate(1 << 20);
      const transfer = () => structuredClone(into.bytes, { transfer: [into.bytes.buffer] });
      try {
        transfer();
      } catch {
        // Some versions of Node throw, others copy instead; the memory stays in both.
      }
      expect(into.detached).toBe(false);
      await reader.read(toRanges([[0, 1000]]), { into });
    });
  });

  it("cannot be transferred away by force, or it is noticed", async () => {
    await withReader(path, {}, async (reader) => {
      const into = reader.allocate(1 << 20);
      const { transfer } = ArrayBuffer.prototype as {
        transfer?: (this: ArrayBuffer) => ArrayBuffer;
      };
      // Node 20 has no such method, and Node 24 forbids it for this memory.
      if (transfer === undefined) return;
      const running = reader.read(toRanges([[0, 900_000]]), { into });
      let held: ArrayBuffer;
      try {
        held = transfer.call(into.bytes.buffer);
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError);
        expect((await running).view(0).length).toBe(900_000);
        return;
      }
      expect(await rejection(running)).toMatchObject({ code: "LANDING_DETACHED" });
      expect(held.byteLength).toBeGreaterThan(0);
      expect(await rejection(reader.read(toRanges([[0, 10]]), { into }))).toMatchObject({
        code: "LANDING_DETACHED",
      });
    });
  });
});
