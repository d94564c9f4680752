import { join } from "node:path";
import { expect, it } from "vitest";
import { binding } from "../src/binding.js";
import { FlashReader } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { resultOf, runScript } from "./child.js";
import { FILE_BYTES, firstWrongPiece, layout, prepared, randomNumbers, until } from "./slices.js";
import { effort, rejection, temporaryDirectory } from "./support.js";
import { testSeed, withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
const file = writeNoise(path, FILE_BYTES);

const ALWAYS = 65535;

describeEachBackend("streams that end early", (options) => {
  it("by an abort: the signal's reason, free landings, and nothing is written any more", async () => {
    const seed = testSeed();
    const next = randomNumbers(seed);
    await withReader(path, options, async (reader) => {
      const { slices, landings, requests } = prepared(reader);
      const reason = { because: "enough" };
      let stopped = 0;
      for (let round = 0; round < effort(100, 2000); round++) {
        const controller = new AbortController();
        const sink = binding.collectingSink(next(2) === 0);
        const streaming = reader.streamSlices(requests, sink, { signal: controller.signal });
        expect(landings.every(({ busy }) => busy)).toBe(true);
        for (let turns = next(5); turns > 0; turns--) {
          binding.releaseCollected(sink, next(slices.count));
          await new Promise((resolve) => setImmediate(resolve));
        }
        controller.abort(reason);
        await streaming.catch((error: unknown) => {
          expect(error, `seed ${seed}`).toBe(reason);
          stopped++;
        });
        expect(binding.collected(sink).ends).toBe(1);
        expect(landings.some(({ busy }) => busy)).toBe(false);
        const memory = new Uint8Array(landings[0].bytes.buffer).fill(0x5a);
        binding.closeCollected(sink);
        await new Promise((resolve) => setImmediate(resolve));
        expect(memory.every((byte) => byte === 0x5a)).toBe(true);
      }
      expect(stopped).toBeGreaterThan(0);
      expect(reader.stats()).toMatchObject({ bytesInFlight: 0, errors: 0 });
      const early = reader.streamSlices(requests, binding.collectingSink(true), {
        signal: AbortSignal.abort(reason),
      });
      await expect(early).rejects.toBe(reason);
    });
  });

  it.each([
    ["EIO", { ioError: ALWAYS }],
    ["ENODEV", { noDevice: ALWAYS }],
  ])("by %s: an IO_ERROR with path, offset, length and errno", async (errno, faults) => {
    const reader = await FlashReader.openWithFaults(path, options, { seed: 1, ...faults });
    const { slices, landings, requests } = prepared(reader);
    const sink = binding.collectingSink(true);
    const error = await rejection(reader.streamSlices(requests, sink));
    expect(error).toMatchObject({ code: "IO_ERROR", errno, path });
    const { alignmentBytes } = reader;
    const starts = Array.from(slices.starts, (start) => {
      const offset = layout.baseOffsetBytes + start * layout.rowBytes;
      return offset - (offset % alignmentBytes);
    });
    expect(starts).toContain(error.offsetBytes);
    expect(error.lengthBytes).toBeGreaterThan(0);
    expect(binding.collected(sink)).toMatchObject({ landed: [], ends: 1, allLanded: false });
    expect(landings.some(({ busy }) => busy)).toBe(false);
    await reader.close();
  });

  it("by faults of every kind: right bytes or a typed error", async () => {
    const seed = testSeed() >>> 0;
    const faults = { seed, shortRead: 8000, again: 500, zero: 300, ioError: 300, delay: 200 };
    const reader = await FlashReader.openWithFaults(path, options, faults);
    const { slices, landings, requests } = prepared(reader, 8);
    const memory = landings[0].bytes.buffer;
    let failed = 0;
    for (let round = 0; round < effort(60, 1000); round++) {
      const sink = binding.collectingSink(true);
      try {
        await reader.streamSlices(requests, sink);
        expect(binding.collected(sink).allLanded).toBe(true);
      } catch (error) {
        const { code } = error as { code: string };
        expect(["TRUNCATED", "IO_ERROR"], `seed ${seed}`).toContain(code);
        failed++;
      }
      for (const slice of binding.collected(sink).landed) {
        const places = { requests, memory, file };
        expect(firstWrongPiece(slices, layout, places, slice, slice + 1), `seed ${seed}`).toBe(-1);
      }
    }
    expect(failed, `seed ${seed}`).toBeGreaterThan(0);
    await reader.close();
  });

  it("by a sink that closes: SINK_CLOSED", async () => {
    await withReader(path, options, async (reader) => {
      const { landings, requests } = prepared(reader);
      const sink = binding.collectingSink(false);
      const streaming = reader.streamSlices(requests, sink);
      await until(() => binding.collected(sink).landed.length === landings.length);
      binding.closeCollected(sink);
      expect(await rejection(streaming)).toMatchObject({ code: "SINK_CLOSED", path });
    });
  });

  it("by a sink that was forgotten, it is still there until the end", async () => {
    const counts = await resultOf<{ landed: number }>(
      runScript("forgotten-sink.mjs", path, options),
    );
    expect(counts.landed).toBe(8);
  });

  it("by close() of the reader: it waits for them, and refuses new ones", async () => {
    const reader = await FlashReader.open(path, options);
    const { slices, requests } = prepared(reader);
    const sink = binding.collectingSink(false);
    const streaming = reader.streamSlices(requests, sink);
    let isClosed = false;
    const closed = reader.close().then(() => (isClosed = true));
    const late = reader.streamSlices(requests, binding.collectingSink(true));
    expect(await rejection(late)).toMatchObject({ code: "CLOSED", path });
    await until(() => binding.collected(sink).landed.length === 3);
    expect(isClosed).toBe(false);
    binding.releaseCollected(sink, slices.count);
    await streaming;
    binding.closeCollected(sink);
    await closed;
  });

  it("by process.exit or a terminated worker, at any moment", async () => {
    expect(await runScript("streams.mjs", path, options)).toEqual({
      code: 0,
      signal: null,
      output: "terminated\nleaving\n",
      errors: "",
    });
  });
});
