import { execFile, execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { firstWrongView, noise, rejection, scattered, temporaryDirectory } from "./support.js";
import { testSeed, toRanges, writeNoise } from "./support.js";

const directory = temporaryDirectory();
const path = join(directory, "data.bin");
const file = writeNoise(path, 8 << 20);
const script = (name: string) => fileURLToPath(new URL(`./scripts/${name}`, import.meta.url));

describe("aborting (R10)", () => {
  it("rejects with the signal's own reason, before and during a read", async () => {
    const reader = await FlashReader.open(path);
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

  it("hundreds at random moments neither hang nor disturb other reads", async () => {
    const seed = testSeed();
    const random = noise(2000, seed);
    const reader = await FlashReader.open(path, { threads: 4 });
    let aborted = 0;
    const rounds = Array.from({ length: 400 }, async (_, i) => {
      const controller = new AbortController();
      const ranges = scattered(reader, 1 + random[4 * i], 2000, i);
      const read = reader.read(ranges, { signal: controller.signal });
      for (let turns = random[4 * i + 1] % 12; turns > 0; turns--) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (random[4 * i + 2] % 3 !== 0) controller.abort(i);
      try {
        expect(firstWrongView(await read, ranges, file), `seed ${seed}`).toBe(-1);
      } catch (error) {
        expect(error, `seed ${seed}`).toBe(i);
        aborted++;
      }
    });
    await Promise.all(rounds);
    expect(aborted).toBeGreaterThan(0);
    expect(reader.stats().bytesInFlight).toBe(0);
    await reader.close();
  });

  it("gives the landing buffer back once drained", async () => {
    const reader = await FlashReader.open(path);
    const ranges = scattered(reader, 300, 9000, 1);
    const into = reader.allocate(reader.landingBytes(ranges));
    for (let i = 0; i < 30; i++) {
      const controller = new AbortController();
      const read = reader.read(ranges, { into, signal: controller.signal });
      controller.abort();
      await expect(read).rejects.toMatchObject({ name: "AbortError" });
      expect(into.busy).toBe(false);
    }
    expect(firstWrongView(await reader.read(ranges, { into }), ranges, file)).toBe(-1);
    await reader.close();
  });

  it("leaves no listener on a long-lived signal", async () => {
    const reader = await FlashReader.open(path);
    const { signal } = new AbortController();
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
    await reader.close();
  });
});

describe("closing", () => {
  it("finishes the reads under way, then refuses new ones", async () => {
    const reader = await FlashReader.open(path);
    const ranges = scattered(reader, 300, 9000, 1);
    const reads = [reader.read(ranges), reader.read(ranges)];
    const closed = reader.close();
    expect(await rejection(reader.read(ranges))).toMatchObject({ code: "CLOSED", path });
    for (const result of await Promise.all(reads)) {
      expect(firstWrongView(result, ranges, file)).toBe(-1);
    }
    await closed;
    await reader.close();
    expect(reader.stats().batches).toBe(2);
  });

  it("can be repeated hundreds of times without running out of anything", async () => {
    for (let i = 0; i < 200; i++) {
      const reader = await FlashReader.open(path, { threads: 2 });
      await reader.read(toRanges([[i, 100]]));
      await reader.close();
    }
  });
});

describe("the event loop", () => {
  it("turns while reads are under way", async () => {
    // Every transfer is late, so that the reads take a while on any machine.
    const faults = { seed: 1, delay: 65535 };
    const reader = await FlashReader.openWithFaults(path, { threads: 1 }, faults);
    let done = false;
    const reads = Promise.all(
      Array.from({ length: 4 }, (_, i) => reader.read(scattered(reader, 150, 500, i))),
    ).finally(() => (done = true));
    let turns = 0;
    while (!done) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    await reads;
    expect(turns).toBeGreaterThan(3);
    await reader.close();
  });

  it("is not kept alive by an open reader that is idle", () => {
    const output = execFileSync(process.execPath, [script("idle.mjs"), path], { timeout: 60_000 });
    expect(output.toString()).toBe("read 10 bytes\n");
  });

  it("is kept alive by a read that nobody awaits", () => {
    const output = execFileSync(process.execPath, [script("unawaited.mjs"), path], {
      timeout: 60_000,
    });
    expect(output.toString()).toBe("settled\n");
  });
});

describe("ending early (R13)", () => {
  it("process.exit in the middle of batches is clean", async () => {
    for (let i = 0; i < 5; i++) {
      const { stdout } = await promisify(execFile)(process.execPath, [script("exit.mjs"), path]);
      expect(stdout).toBe("leaving\n");
    }
  });

  it("worker threads read side by side and may be terminated in the middle of batches", async () => {
    const workers = Array.from({ length: 8 }, async (_, i) => {
      const worker = new Worker(script("worker.mjs"), {
        workerData: { path, rounds: i % 2 === 0 ? 30 : Infinity },
      });
      const exited = new Promise<number>((resolve) => worker.once("exit", resolve));
      const failed = new Promise<never>((_, reject) => worker.once("error", reject));
      const first = new Promise<Uint8Array>((resolve) => worker.once("message", resolve));
      const start = await Promise.race([first, failed]);
      expect(Buffer.from(start).equals(file.subarray(0, start.length))).toBe(true);
      if (i % 2 === 1) await worker.terminate();
      return Promise.race([exited, failed]);
    });
    const codes = await Promise.all(workers);
    expect(codes).toEqual(codes.map((_, i) => (i % 2 === 0 ? 0 : 1)));
  });

  it("worker threads may be terminated while files are being opened", async () => {
    for (let i = 0; i < 10; i++) {
      const worker = new Worker(script("opener.mjs"), { workerData: { path } });
      await new Promise((resolve) => worker.once("message", resolve));
      await worker.terminate();
    }
  });

  it("unused readers are collected with their threads", () => {
    const output = execFileSync(process.execPath, ["--expose-gc", script("collect.mjs"), path], {
      timeout: 60_000,
    });
    expect(output.toString()).toBe("collected\n");
  });
});
