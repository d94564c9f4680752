import { join } from "node:path";
import { expect, it } from "vitest";
import { binding } from "../src/binding.js";
import { SliceRequests } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { consume, FILE_BYTES, firstWrongPiece, landingsFor, layout, prepared } from "./slices.js";
import { randomNumbers, randomSlices, ROWS, until } from "./slices.js";
import { effort, firstWrongView, temporaryDirectory } from "./support.js";
import { testSeed, toRanges, withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
const file = writeNoise(path, FILE_BYTES);

describeEachBackend("streams", (options) => {
  it("bring the bytes of readPlan, slice by slice, whatever the plan and the window", async () => {
    const seed = testSeed();
    const next = randomNumbers(seed);
    for (const readThroughBytes of [0, 16_384]) {
      const tuning = { readThroughBytes, maxRequestBytes: 65_536 };
      await withReader(path, { ...options, tuning }, async (reader) => {
        const requests = new SliceRequests();
        for (let round = 0; round < effort(15, 300); round++) {
          const pieces = Array.from({ length: 1 + next(12) }, () => next(2) * next(30));
          const slices = randomSlices(next, 400 + next(ROWS - 400), pieces);
          if (slices.starts.length > 0 && next(2) === 0) {
            // The last row ends within the last block of the file.
            const last = slices.starts.length - 1;
            slices.starts[last] = ROWS - 1;
            slices.lengths[last] = 1;
          }
          const where = `seed ${seed}, round ${round}`;
          const landings = landingsFor(reader, slices, layout, 1 + next(5));
          reader.prepareSlices(slices, layout, landings, requests);
          const memory = landings[0].bytes.buffer;
          const sink = binding.collectingSink(false);
          const bytesUnderWay = next(2) === 0 ? {} : { bytesUnderWay: 1 + next(500_000) };
          const streaming = reader.streamSlices(requests, sink, bytesUnderWay);
          const checked: number[] = [];
          await consume(sink, slices.count, (slice) => {
            const wrong = firstWrongPiece(
              slices,
              layout,
              { requests, memory, file },
              slice,
              slice + 1,
            );
            expect(wrong, where).toBe(-1);
            checked.push(slice);
          });
          const result = await streaming;
          binding.closeCollected(sink);
          expect(checked.sort((a, b) => a - b)).toEqual(pieces.map((_, s) => s));
          expect(binding.collected(sink)).toMatchObject({ begins: 1, ends: 1, allLanded: true });
          const { starts, lengths } = slices;
          const plan = { starts, lengths, chunkCount: starts.length };
          const read = await reader.readPlan(plan, layout);
          expect(result.bytesWanted, where).toBe(read.bytesWanted);
          expect(requests.bytesWanted).toBe(read.bytesWanted);
          expect(result.bytesRead, where).toBeGreaterThanOrEqual(result.bytesWanted);
          expect(result.readNs > 0 || starts.length === 0).toBe(true);
        }
      });
    }
  });

  it("read gaps through only where a landing has the room", async () => {
    const tuning = { readThroughBytes: 16_384 };
    await withReader(path, { ...options, tuning }, async (reader) => {
      // Two slices of ten rows with gaps of one row.
      const slices = {
        starts: Uint32Array.from({ length: 20 }, (_, p) => 10 + 2 * p),
        lengths: new Uint32Array(20).fill(1),
        ends: Uint32Array.of(10, 20),
        count: 2,
      };
      const rows = { ...layout, rowBytes: 16_384 };
      const exact = reader.landingBytesBound(10, 10 * rows.rowBytes);
      const requests = new SliceRequests();
      const run = async (capacityBytes: number) => {
        const landings = reader.allocateParts(2, capacityBytes);
        reader.prepareSlices(slices, rows, landings, requests);
        const result = await reader.streamSlices(requests, binding.collectingSink(true));
        const memory = landings[0].bytes.buffer;
        expect(firstWrongPiece(slices, rows, { requests, memory, file }, 0, 2)).toBe(-1);
        return result;
      };
      const [tight, roomy] = [await run(exact), await run(2 * exact)];
      expect(roomy.requests).toBeLessThan(tight.requests);
      expect(roomy.bytesRead).toBeGreaterThan(tight.bytesRead);
    });
  });

  it("write only to the landings, and never ahead of what the sink released", async () => {
    await withReader(path, options, async (reader) => {
      const { slices, landings, requests } = prepared(reader);
      const memory = new Uint8Array(landings[0].bytes.buffer).fill(0xa5);
      const sink = binding.collectingSink(false);
      const streaming = reader.streamSlices(requests, sink);
      for (let released = 0; released <= slices.count; released++) {
        const reached = Math.min(slices.count, released + landings.length);
        await until(() => binding.collected(sink).landed.length === reached);
        const places = { requests, memory: memory.buffer, file };
        expect(firstWrongPiece(slices, layout, places, released, reached)).toBe(-1);
        expect(Math.max(...binding.collected(sink).landed)).toBe(reached - 1);
        binding.releaseCollected(sink, released + 1);
      }
      await streaming;
      binding.closeCollected(sink);
      for (const { bytes } of landings) bytes.fill(0xa5);
      expect(memory.every((byte) => byte === 0xa5)).toBe(true);
    });
  });

  it("run side by side with each other and with reads", async () => {
    await withReader(path, options, async (reader) => {
      const streams = [prepared(reader, 8), prepared(reader, 8), prepared(reader, 8)];
      const ranges = toRanges([[77, 900_000]]);
      const running = streams.map(({ requests }) =>
        reader.streamSlices(requests, binding.collectingSink(true)),
      );
      const read = await reader.read(ranges);
      await Promise.all(running);
      expect(firstWrongView(read, ranges, file)).toBe(-1);
      for (const { slices, landings, requests } of streams) {
        const memory = landings[0].bytes.buffer;
        expect(firstWrongPiece(slices, layout, { requests, memory, file }, 0, 8)).toBe(-1);
      }
      const wanted = streams.reduce((sum, { requests }) => sum + requests.bytesWanted, 900_000);
      expect(reader.stats()).toMatchObject({
        batches: 4,
        bytesWanted: wanted,
        bytesInFlight: 0,
        errors: 0,
      });
    });
  });

  it("count like reads, and their requests are in the native memory while they run", async () => {
    await withReader(path, options, async (reader) => {
      const { requests } = prepared(reader);
      const before = reader.stats();
      const sink = binding.collectingSink(false);
      const streaming = reader.streamSlices(requests, sink);
      expect(reader.stats().nativeBytes).toBeGreaterThan(before.nativeBytes);
      binding.releaseCollected(sink, 8);
      const { bytesRead, requests: transfers } = await streaming;
      binding.closeCollected(sink);
      const after = reader.stats();
      expect(after.nativeBytes).toBe(before.nativeBytes);
      expect(after.bytesRead - before.bytesRead).toBe(bytesRead);
      expect(after.requests - before.requests).toBe(transfers);
    });
  });

  it("without slices, or with empty ones, end at once", async () => {
    await withReader(path, options, async (reader) => {
      const landings = reader.allocateParts(1, 0);
      const requests = new SliceRequests();
      for (const count of [0, 3]) {
        const none = new Uint32Array(3);
        reader.prepareSlices(
          { starts: none, lengths: none, ends: none, count },
          layout,
          landings,
          requests,
        );
        const sink = binding.collectingSink(true);
        const result = await reader.streamSlices(requests, sink);
        expect(result).toMatchObject({ bytesWanted: 0, bytesRead: 0, requests: 0 });
        expect(binding.collected(sink)).toMatchObject({ slices: count, ends: 1, allLanded: true });
      }
    });
  });

  it("the same workspace serves another plan while the stream runs", async () => {
    await withReader(path, options, async (reader) => {
      const { slices, landings, requests } = prepared(reader, 8);
      const offsets = requests.offsetsBytes.slice();
      const first = binding.collectingSink(true);
      const streaming = reader.streamSlices(requests, first);
      const others = landingsFor(reader, slices, layout, 8);
      reader.prepareSlices(slices, layout, others, requests);
      await Promise.all([streaming, reader.streamSlices(requests, binding.collectingSink(true))]);
      const bytesAt = (buffer: ArrayBuffer, at: number, p: number) =>
        Buffer.from(buffer, at, slices.lengths[p] * layout.rowBytes);
      for (let p = 0; p < 32; p++) {
        const one = bytesAt(landings[0].bytes.buffer, offsets[p], p);
        const other = bytesAt(others[0].bytes.buffer, requests.offsetsBytes[p], p);
        expect(one.equals(other)).toBe(true);
      }
    });
  });
});
