import { join } from "node:path";
import { expect, it } from "vitest";
import type { LandingBuffer } from "../src/index.js";
import { FlashReader } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { effort, firstWrongView, noise, scattered, temporaryDirectory } from "./support.js";
import { testSeed, toRanges, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
const file = writeNoise(path, 8 << 20);

/** On each backend; 10^4 in all, and that many on each under NCHUNK_SOAK. */
const ABORTS = effort(2500, 10_000);
const AT_ONCE = 50;

describeEachBackend("R10: aborting", (options) => {
  const open = () =>
    FlashReader.open(path, { ...options, tuning: { threads: 4, queueDepth: 16, submitBatch: 4 } });

  it(`${ABORTS} reads at random moments neither hangs nor disturbs other reads`, async () => {
    const seed = testSeed();
    const random = noise(12 * ABORTS, seed);
    let at = 0;
    const next = (below: number) => random[at++ % random.length] % below;
    const reader = await open();
    const widest = scattered(reader, 24, 3000, seed);
    const free: LandingBuffer[] = Array.from({ length: AT_ONCE }, () =>
      reader.allocate(reader.landingBytesBound(widest.count, 24 * 3000)),
    );
    let aborts = 0;
    let rejected = 0;
    let completed = 0;

    async function readAndPerhapsAbort(read: number): Promise<void> {
      const controller = new AbortController();
      const ranges = scattered(reader, 1 + next(24), 3000, seed + read);
      const into = free.pop();
      if (into === undefined) throw new Error("no landing buffer is left");
      const reading = reader.read(ranges, { into, signal: controller.signal });
      // One in eight is let be: a witness that the others do not disturb it.
      if (next(8) !== 0) {
        aborts++;
        for (let turns = next(6); turns > 0; turns--) {
          await new Promise((resolve) => setImmediate(resolve));
        }
        controller.abort(read);
      }
      try {
        expect(firstWrongView(await reading, ranges, file), `seed ${seed}`).toBe(-1);
        completed++;
      } catch (error) {
        expect(error, `seed ${seed}`).toBe(read);
        rejected++;
      }
      expect(into.busy).toBe(false);
      free.push(into);
    }

    for (let read = 0; aborts < ABORTS; read += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => readAndPerhapsAbort(read + i)));
    }
    expect(rejected, `seed ${seed}`).toBeGreaterThan(0);
    expect(completed, `seed ${seed}`).toBeGreaterThan(0);
    expect(free).toHaveLength(AT_ONCE);
    expect(reader.stats()).toMatchObject({ bytesInFlight: 0, errors: 0 });
    await reader.close();
  });

  it("rejects with the signal's own reason, before and during a read", async () => {
    const reader = await open();
    const reason = { because: "the user went away" };
    const early = reader.read(toRanges([[0, 10]]), { signal: AbortSignal.abort(reason) });
    await expect(early).rejects.toBe(reason);
    const controller = new AbortController();
    const late = reader.read(scattered(reader, 500, 9000, 1), { signal: controller.signal });
    controller.abort(reason);
    await expect(late).rejects.toBe(reason);
    expect(reader.stats().batches).toBe(1);
    await reader.close();
  });

  it("stops what is not yet submitted", async () => {
    // Many transfers are refused for the moment, so that the reads take a while on any machine.
    const faults = { seed: 1, again: 16_000 };
    const tuning = { threads: 1, queueDepth: 1 };
    const reader = await FlashReader.openWithFaults(path, { ...options, tuning }, faults);
    const ranges = scattered(reader, 600, 2000, 1);
    const controller = new AbortController();
    const before = [0, 1, 2].map(() => reader.read(ranges));
    const last = reader.read(ranges, { signal: controller.signal });
    controller.abort();
    await expect(last).rejects.toMatchObject({ name: "AbortError" });
    const requests = (await Promise.all(before)).reduce((sum, result) => sum + result.requests, 0);
    // Whatever waits behind the others is never read; a request under way may be.
    expect(reader.stats().requests).toBeLessThanOrEqual(requests + 1);
    await reader.close();
  });

  it("gives the landing buffer back once nothing is written to it any more", async () => {
    const reader = await open();
    const ranges = scattered(reader, 300, 900, 1);
    const into = reader.allocate(reader.landingBytes(ranges));
    const filled = Buffer.alloc(into.capacityBytes, 0x5a);
    for (let i = 0; i < 30; i++) {
      const controller = new AbortController();
      const read = reader.read(ranges, { into, signal: controller.signal });
      if (i % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      controller.abort();
      await read.catch((error: unknown) => {
        expect(error).toMatchObject({ name: "AbortError" });
      });
      expect(into.busy).toBe(false);
      into.bytes.fill(0x5a);
      await new Promise((resolve) => setImmediate(resolve));
      expect(filled.equals(into.bytes)).toBe(true);
    }
    expect(firstWrongView(await reader.read(ranges, { into }), ranges, file)).toBe(-1);
    await reader.close();
  });

  it("leaves no listener on a long-lived signal", async () => {
    const reader = await open();
    const controller = new AbortController();
    const { signal } = controller;
    let listeners = 0;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      listeners--;
      remove(...args);
    };
    for (let i = 0; i < 20; i++) await reader.read(toRanges([[i, 10]]), { signal });
    expect(listeners).toBe(0);
    const last = reader.read(scattered(reader, 300, 9000, 1), { signal });
    expect(listeners).toBe(1);
    controller.abort();
    await expect(last).rejects.toMatchObject({ name: "AbortError" });
    expect(listeners).toBe(0);
    await reader.close();
  });
});
