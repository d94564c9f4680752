import { join } from "node:path";
import { expect, it } from "vitest";
import { binding } from "../src/binding.js";
import { SliceRequests } from "../src/index.js";
import type { LandingBuffer, PlanSlices } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { FILE_BYTES, layout, prepared, ROWS } from "./slices.js";
import { rejection, temporaryDirectory, toRanges, withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
writeNoise(path, FILE_BYTES);

describeEachBackend("prepareSlices and streamSlices", (options) => {
  it("refuse what makes no sense", async () => {
    await withReader(path, options, async (reader) => {
      const requests = new SliceRequests();
      const { slices, landings } = prepared(reader);
      const prepare = (changed: Partial<PlanSlices>, into: readonly LandingBuffer[] = landings) => {
        reader.prepareSlices({ ...slices, ...changed }, layout, into, requests);
      };
      const invalid = expect.objectContaining({ code: "INVALID_ARGUMENT" }) as Error;
      expect(() => {
        prepare({ count: 9 });
      }).toThrow(invalid);
      expect(() => {
        prepare({ count: -1 });
      }).toThrow(invalid);
      expect(() => {
        prepare({ ends: slices.ends.toReversed() });
      }).toThrow(invalid);
      expect(() => {
        prepare({ starts: slices.starts.subarray(1) });
      }).toThrow(invalid);
      expect(() => {
        prepare({ lengths: new Uint32Array(32) });
      }).toThrow(invalid);
      expect(() => {
        prepare({}, []);
      }).toThrow(invalid);
      expect(() => {
        prepare({}, [landings[0], landings[0]]);
      }).toThrow(invalid);
      expect(() => {
        prepare({}, [landings[0], reader.allocate(1 << 20)]);
      }).toThrow(invalid);
      expect(() => {
        prepare({}, [landings[0].bytes as never]);
      }).toThrow(invalid);
      expect(() => {
        prepare({ starts: slices.starts.map((start) => start + ROWS) });
      }).toThrow(expect.objectContaining({ code: "OUT_OF_RANGE", path }));
      const sink = binding.collectingSink(true);
      // What was prepared last is not there any more.
      await expect(reader.streamSlices(requests, sink)).rejects.toEqual(invalid);
      prepare({});
      for (const nothing of [{}, null, undefined, 1]) {
        await expect(reader.streamSlices(requests, nothing as never)).rejects.toEqual(invalid);
      }
      for (const bytesUnderWay of [0, -1, NaN]) {
        await expect(reader.streamSlices(requests, sink, { bytesUnderWay })).rejects.toEqual(
          invalid,
        );
      }
      await withReader(path, options, async (other) => {
        await expect(other.streamSlices(requests, sink)).rejects.toEqual(invalid);
      });
      expect(binding.collected(sink).begins).toBe(0);
      expect(reader.stats().batches).toBe(0);
      await reader.streamSlices(requests, sink);
    });
  });

  it("say which landing is too small, busy or gone", async () => {
    await withReader(path, options, async (reader) => {
      const { slices, landings, requests } = prepared(reader);
      const small = reader.allocateParts(2, 8192);
      const tooSmall = expect.objectContaining({ code: "LANDING_TOO_SMALL", got: 8192 }) as Error;
      const unused = new SliceRequests();
      expect(() => {
        reader.prepareSlices(slices, layout, small, unused);
      }).toThrow(tooSmall);
      const sink = binding.collectingSink(false);
      const streaming = reader.streamSlices(requests, sink);
      const busy = { code: "LANDING_BUSY", path };
      const again = reader.streamSlices(requests, binding.collectingSink(true));
      expect(await rejection(again)).toMatchObject(busy);
      const read = reader.read(toRanges([[0, 10]]), { into: landings[1] });
      expect(await rejection(read)).toMatchObject(busy);
      binding.releaseCollected(sink, slices.count);
      await streaming;
      binding.closeCollected(sink);
      const reading = reader.read(toRanges([[0, 10]]), { into: landings[1] });
      const late = reader.streamSlices(requests, binding.collectingSink(true));
      expect(await rejection(late)).toMatchObject(busy);
      await reading;
    });
  });

  it("allocate nothing for a plan no larger than one before", async () => {
    await withReader(path, options, async (reader) => {
      const { slices, landings, requests } = prepared(reader);
      const held = [requests.offsetsBytes, requests.requests, requests.requestEnds];
      reader.prepareSlices({ ...slices, count: 5 }, layout, landings, requests);
      reader.prepareSlices(slices, layout, landings, requests);
      expect([requests.offsetsBytes, requests.requests, requests.requestEnds]).toEqual(held);
      expect(requests.offsetsBytes).toBe(held[0]);
      expect(requests.requests).toBe(held[1]);
      await Promise.resolve();
    });
  });
});
