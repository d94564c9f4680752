import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { resultOf, runScript } from "./child.js";
import { firstWrongView, rejection, scattered, temporaryDirectory } from "./support.js";
import { toRanges, withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
const file = writeNoise(path, 8 << 20);

/** What a process holds because of readers; see scripts/support.mjs. */
interface Held {
  threads: number;
  files: number;
  rings: number;
  events: number;
}

const NOTHING = { threads: 0, files: 0, rings: 0 };

describeEachBackend("closing", (options) => {
  it("finishes the reads under way, then refuses new ones", async () => {
    const reader = await FlashReader.open(path, options);
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

  it("can be repeated a hundred times without running out of anything", async () => {
    for (let i = 0; i < 100; i++) {
      await withReader(path, { ...options, tuning: { threads: 2 } }, (reader) =>
        reader.read(toRanges([[i, 100]])),
      );
    }
  });
});

describeEachBackend("R13: ending early", (options) => {
  it("process.exit in the middle of batches is clean", async () => {
    for (let i = 0; i < 3; i++) {
      expect(await runScript("exit.mjs", path, options)).toEqual({
        code: 0,
        signal: null,
        output: "leaving\n",
        errors: "",
      });
    }
  });

  it("an exception that nobody catches ends the process with that exception", async () => {
    const outcome = await runScript("exit.mjs", path, options, "throw");
    expect(outcome).toMatchObject({ code: 1, signal: null, output: "leaving\n" });
    expect(outcome.errors).toContain("on purpose");
  });

  it("worker threads read side by side and may be terminated at any moment, leaving nothing", async () => {
    const { codes, before, after } = await resultOf<{ codes: number[]; before: Held; after: Held }>(
      runScript("workers.mjs", path, { ...options, tuning: { threads: 3 } }),
    );
    expect(codes).toEqual([0, 1, 0, 1]);
    expect(after).toMatchObject(NOTHING);
    expect(after.events).toBeLessThanOrEqual(before.events);
  });

  it("readers that nobody closed are collected with their threads and descriptors", async () => {
    const { before, during, after } = await resultOf<Record<"before" | "during" | "after", Held>>(
      runScript("collect.mjs", path, { ...options, tuning: { threads: 4 } }),
    );
    // Otherwise there would be nothing to collect.
    expect(during.threads).toBeGreaterThan(0);
    expect(during.files).toBeGreaterThan(0);
    expect(during.rings > 0).toBe(options.backend === "io_uring");
    expect(after).toMatchObject(NOTHING);
    expect(after.events).toBeLessThanOrEqual(before.events);
  });
});

describe("the process", () => {
  it("is not kept alive by an open reader that is idle", async () => {
    expect(await runScript("idle.mjs", path)).toMatchObject({
      code: 0,
      output: "read 10 bytes\n",
    });
  });

  it("is kept alive by a read that nobody awaits", async () => {
    expect(await runScript("unawaited.mjs", path)).toMatchObject({ code: 0, output: "settled\n" });
  });
});
