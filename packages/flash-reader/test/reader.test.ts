import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import type { ByteRanges } from "../src/index.js";
import { firstWrongView, rejection, scattered, temporaryDirectory } from "./support.js";
import { testSeed, toRanges, writeNoise } from "./support.js";

const directory = temporaryDirectory();
const memoryDirectory = temporaryDirectory("/dev/shm");
const path = join(directory, "data.bin");
const SIZE_BYTES = 4_000_123;
const file = writeNoise(path, SIZE_BYTES);

async function withReader<T>(
  options: Parameters<typeof FlashReader.open>[1],
  use: (reader: FlashReader) => Promise<T>,
): Promise<T> {
  const reader = await FlashReader.open(path, options);
  try {
    return await use(reader);
  } finally {
    await reader.close();
  }
}

describe.each(["optional", "disabled"] as const)("reading with directIo %s", (directIo) => {
  it("gives the bytes of fs.readFileSync for any ranges in any order (R7)", async () => {
    expect(readFileSync(path).equals(file)).toBe(true);
    const pair = fc
      .tuple(fc.nat(SIZE_BYTES - 1), fc.integer({ min: 1, max: 70_000 }))
      .map(([offset, length]) => [offset, Math.min(length, SIZE_BYTES - offset)] as const);
    await withReader({ directIo }, (reader) =>
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
    await withReader({ directIo }, (reader) =>
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
    await withReader({ directIo }, async (reader) => {
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
    await withReader({ directIo }, async (reader) => {
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
      const reader = await FlashReader.open(small, { directIo });
      expect(bytes.equals((await reader.read(toRanges([[0, size]]))).view(0))).toBe(true);
      await reader.close();
    }
  });

  it("runs many batches at once", async () => {
    await withReader({ directIo, threads: 3 }, async (reader) => {
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
    });
  });
});

describe("landing buffers", () => {
  it("are page-aligned, ordinary and reusable, and hold what landingBytes says", async () => {
    await withReader({}, async (reader) => {
      const first = scattered(reader, 50, 5000, 1);
      const second = scattered(reader, 60, 3000, 2);
      const need = Math.max(reader.landingBytes(first), reader.landingBytes(second));
      const into = reader.allocate(need);
      expect(into.capacityBytes).toBe(need);
      expect(into.bytes.buffer).toBeInstanceOf(ArrayBuffer);
      for (const ranges of [first, second, first]) {
        expect(firstWrongView(await reader.read(ranges, { into }), ranges, file)).toBe(-1);
      }
    });
  });

  it("landingBytesBound is enough for any disjoint ranges", async () => {
    await withReader({}, async (reader) => {
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
    await withReader({}, async (reader) => {
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
    await withReader({}, async (reader) => {
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
    await withReader({}, async (reader) => {
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

describe("results", () => {
  it("an empty read is empty", async () => {
    await withReader({}, async (reader) => {
      const result = await reader.read(toRanges([]));
      expect(result).toMatchObject({ count: 0, bytesRead: 0, bytesWanted: 0, requests: 0 });
      expect(() => result.view(0)).toThrow(RangeError);
    });
  });

  it("keep their views when the caller's arrays change", async () => {
    await withReader({}, async (reader) => {
      const plan = { starts: Uint32Array.of(3), lengths: Uint32Array.of(5), chunkCount: 1 };
      const pending = reader.readPlan(plan, { baseOffsetBytes: 0, rowBytes: 1000 });
      plan.starts[0] = 900;
      plan.lengths[0] = 1;
      const result = await pending;
      expect(file.subarray(3000, 8000).equals(result.view(0))).toBe(true);
    });
  });

  it("overlapping ranges are read once", async () => {
    await withReader({ directIo: "disabled" }, async (reader) => {
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

describe("direct I/O", () => {
  it("is really in use on the descriptor that reads", async () => {
    await withReader({}, async (reader) => {
      await reader.read(toRanges([[0, 1]]));
      const flags = readdirSync("/proc/self/fd")
        .filter((fd) => {
          try {
            return readlinkSync(`/proc/self/fd/${fd}`) === path;
          } catch {
            return false;
          }
        })
        .map((fd) => /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1]);
      expect(flags).toHaveLength(1);
      const { O_DIRECT } = (await import("node:fs")).constants;
      const direct = (parseInt(flags[0] ?? "0", 8) & O_DIRECT) !== 0;
      expect(direct).toBe(reader.backend.directIo);
      if (!reader.backend.directIo) expect(reader.backend.reason).not.toBe("");
    });
  });

  it("leaves no descriptor behind after close", async () => {
    const open = () =>
      readdirSync("/proc/self/fd").filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`) === path;
        } catch {
          return false;
        }
      }).length;
    for (let i = 0; i < 5; i++) await withReader({}, (reader) => reader.read(toRanges([[0, 9]])));
    expect(open()).toBe(0);
  });

  it("R11: memory file systems are buffered when optional, refused when required", async () => {
    const inMemory = join(memoryDirectory, "data.bin");
    writeFileSync(inMemory, file);
    const error = await rejection(FlashReader.open(inMemory, { directIo: "required" }));
    expect(error).toMatchObject({
      code: "DIRECT_IO_UNSUPPORTED",
      path: inMemory,
      errno: "ENOTSUP",
    });
    const reader = await FlashReader.open(inMemory, { directIo: "optional" });
    expect(reader.backend).toMatchObject({ name: "pool", directIo: false, errno: "ENOTSUP" });
    expect(reader.backend.reason).toMatch(/memory/);
    expect(reader.alignmentBytes).toBe(1);
    const ranges = scattered(reader, 100, 1792, 9);
    expect(firstWrongView(await reader.read(ranges), ranges, file)).toBe(-1);
    await reader.close();
  });
});
