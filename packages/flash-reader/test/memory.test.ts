import { closeSync, ftruncateSync, openSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { binding } from "../src/binding.js";
import { FlashReader } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { collectGarbage, firstWrongView, scattered, temporaryDirectory } from "./support.js";
import { toRanges, withReader, writeNoise } from "./support.js";

const directory = temporaryDirectory();
const path = join(directory, "data.bin");
const file = writeNoise(path, 8 << 20);

// Far more requests than fit into one look at the clock; holes cost no space and no device time.
const hollow = join(directory, "hollow.bin");
const HOLLOW_BYTES = 64 << 20;
const made = openSync(hollow, "w");
ftruncateSync(made, HOLLOW_BYTES);
closeSync(made);

/** What a request takes natively: two 8-byte addresses and a length, at least. */
const LEAST_BYTES_PER_REQUEST = 20;

describeEachBackend("R14: memory", (options) => {
  it.each([
    ["within their limit", 100_000, 16_384, 100_000],
    ["those of one request where it is larger than the limit", 5000, 65_536, 65_536],
  ])("bytes in flight are %s", async (_, maxBytesInFlight, maxRequestBytes, most) => {
    // Refusals for the moment and delays let transfers pile up.
    const faults = { seed: 1, again: 10_000, delay: 30_000 };
    const tuning = { maxBytesInFlight, maxRequestBytes, queueDepth: 64, threads: 16 };
    const reader = await FlashReader.openWithFaults(path, { ...options, tuning }, faults);
    const ranges = scattered(reader, 200, 60_000, 1);
    expect(firstWrongView(await reader.read(ranges), ranges, file)).toBe(-1);
    const { bytesInFlight, mostBytesInFlight } = reader.stats();
    expect(mostBytesInFlight).toBeGreaterThan(0);
    expect(mostBytesInFlight).toBeLessThanOrEqual(most);
    expect(bytesInFlight).toBe(0);
    await reader.close();
  });

  it("of a large batch shows in the statistics and to V8 while it is pending, then is gone", async () => {
    await withReader(hollow, options, async (reader) => {
      const stepBytes = 2 * Math.max(512, reader.alignmentBytes);
      const count = HOLLOW_BYTES / stepBytes;
      const ranges = toRanges(Array.from({ length: count }, (_, i) => [i * stepBytes, 1] as const));
      const into = reader.allocate(reader.landingBytes(ranges));
      await reader.read(ranges, { into });
      await collectGarbage();
      const idle = { native: reader.stats().nativeBytes, reported: binding.externalMemoryBytes() };
      const expected = count * LEAST_BYTES_PER_REQUEST;
      const reading = reader.read(ranges, { into });
      expect(reader.stats().nativeBytes - idle.native).toBeGreaterThanOrEqual(expected);
      expect(binding.externalMemoryBytes() - idle.reported).toBeGreaterThanOrEqual(expected);
      await reading;
      expect(reader.stats().nativeBytes).toBe(idle.native);
      expect(binding.externalMemoryBytes() - idle.reported).toBeLessThan(expected / 10);
    });
  });

  it("of rings is reported, and given back when the reader is closed", async () => {
    await collectGarbage();
    const before = binding.externalMemoryBytes();
    const reader = await FlashReader.open(path, { ...options, tuning: { queueDepth: 1024 } });
    const { nativeBytes } = reader.stats();
    expect(nativeBytes > 1024 * 64).toBe(options.backend === "io_uring");
    expect(binding.externalMemoryBytes() - before).toBeGreaterThanOrEqual(nativeBytes);
    await reader.close();
    expect(reader.stats().nativeBytes).toBe(0);
  });

  it("of landing buffers is in the statistics", async () => {
    await withReader(path, options, async (reader) => {
      const before = reader.stats().landingBytes;
      const into = reader.allocate(1 << 20);
      expect(reader.stats().landingBytes - before).toBe(into.bytes.buffer.byteLength);
      await Promise.resolve();
    });
  });
});
