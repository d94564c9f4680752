import { mkdirSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { firstWrongView, rejection, scattered, temporaryDirectory } from "./support.js";
import { testSeed, toRanges, writeNoise } from "./support.js";

const directory = temporaryDirectory();
const path = join(directory, "data.bin");
const file = writeNoise(path, 1_000_003);

describe("opening", () => {
  it("a missing file names the path and the errno", async () => {
    const missing = join(directory, "missing.bin");
    const error = await rejection(FlashReader.open(missing));
    expect(error).toMatchObject({ code: "OPEN_FAILED", path: missing, errno: "ENOENT" });
    expect(error.message).toContain(missing);
  });

  it("directories and devices are not files", async () => {
    mkdirSync(join(directory, "folder"));
    expect(await rejection(FlashReader.open(join(directory, "folder")))).toMatchObject({
      code: "NOT_A_FILE",
    });
    expect(await rejection(FlashReader.open("/dev/zero"))).toMatchObject({ code: "NOT_A_FILE" });
  });

  it("an empty file opens and has nothing to read", async () => {
    const empty = join(directory, "empty.bin");
    writeFileSync(empty, "");
    const reader = await FlashReader.open(empty);
    expect(reader.sizeBytes).toBe(0);
    expect(await rejection(reader.read(toRanges([[0, 1]])))).toMatchObject({
      code: "OUT_OF_RANGE",
    });
    await reader.close();
  });

  it.each([
    ["an empty path", "", {}],
    ["a path with NUL", "a\0b", {}],
    ["a path that is no string", 7 as unknown as string, {}],
    ["an unknown mode", path, { directIo: "maybe" as never }],
    ["an inherited mode", path, { directIo: "toString" as never }],
    ["no threads", path, { threads: 0 }],
    ["too many threads", path, { threads: 65 }],
    ["half a thread", path, { threads: 1.5 }],
  ])("%s is an argument error", async (_, given, options) => {
    expect(await rejection(FlashReader.open(given, options))).toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});

describe("files that change (R9)", () => {
  it.each(["optional", "disabled"] as const)("truncated under %s reads", async (directIo) => {
    const victim = join(directory, `truncated-${directIo}.bin`);
    writeNoise(victim, 4 << 20);
    const reader = await FlashReader.open(victim, { directIo, threads: 2 });
    const ranges = scattered(reader, 400, 4096, 5);
    const reads = [reader.read(ranges), reader.read(ranges), reader.read(ranges)];
    truncateSync(victim, 100_000);
    const outcomes = await Promise.allSettled(reads);
    const after = await rejection(reader.read(toRanges([[3 << 20, 4096]])));
    expect(after).toMatchObject({ code: "FILE_CHANGED", path: victim, offsetBytes: 3 << 20 });
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") {
        expect(outcome.reason).toMatchObject({ code: "FILE_CHANGED" });
      }
    }
    await reader.close();
  });

  it("replaced by another file of the same size", async () => {
    const victim = join(directory, "replaced.bin");
    writeNoise(victim, 100_000);
    const reader = await FlashReader.open(victim);
    await reader.read(toRanges([[0, 5000]]));
    writeNoise(join(directory, "new.bin"), 100_000, 2);
    renameSync(join(directory, "new.bin"), victim);
    const error = await rejection(reader.read(toRanges([[0, 5000]])));
    expect(error).toMatchObject({ code: "FILE_CHANGED", path: victim });
    expect(error.message).toContain("open the file again");
    await reader.close();
  });

  it("written to in place", async () => {
    const victim = join(directory, "written.bin");
    writeNoise(victim, 100_000);
    const reader = await FlashReader.open(victim);
    await new Promise((resolve) => setTimeout(resolve, 20));
    writeNoise(victim, 100_000, 3);
    expect(await rejection(reader.read(toRanges([[0, 5000]])))).toMatchObject({
      code: "FILE_CHANGED",
    });
    await reader.close();
  });
});

describe("faults at the system-call boundary (R8)", () => {
  const withFaults = (faults: object) =>
    FlashReader.openWithFaults(path, {}, { seed: testSeed() >>> 0, ...faults });

  it("short reads, EINTR, EAGAIN, ENOMEM and delays leave right bytes", async () => {
    const seed = testSeed() >>> 0;
    const reader = await withFaults({
      seed,
      shortRead: 8000,
      interrupted: 3000,
      again: 500,
      noMemory: 500,
      delay: 200,
    });
    for (let i = 0; i < 20; i++) {
      const ranges = scattered(reader, 50, 5000, i);
      const result = await reader.read(ranges);
      expect(firstWrongView(result, ranges, file), `seed ${seed}`).toBe(-1);
    }
    expect(reader.stats().retries).toBeGreaterThan(0);
    expect(reader.stats().errors).toBe(0);
    await reader.close();
  });

  it.each([
    ["EIO", { ioError: 65535 }],
    ["ENODEV", { noDevice: 65535 }],
  ])("%s is an IO_ERROR with path, offset, length and errno", async (errno, faults) => {
    const reader = await withFaults(faults);
    const error = await rejection(reader.read(toRanges([[8192, 4096]])));
    expect(error).toMatchObject({
      code: "IO_ERROR",
      path,
      offsetBytes: 8192,
      lengthBytes: 4096,
      errno,
    });
    for (const part of [path, "8192", "4096", errno]) expect(error.message).toContain(part);
    expect(reader.stats().errors).toBe(1);
    await reader.close();
  });

  it("EINTR or EAGAIN for ever ends as an error", async () => {
    for (const [errno, faults] of [
      ["EINTR", { interrupted: 65535 }],
      ["EAGAIN", { again: 65535 }],
    ] as const) {
      const reader = await withFaults(faults);
      expect(await rejection(reader.read(toRanges([[0, 4096]])))).toMatchObject({
        code: "IO_ERROR",
        errno,
      });
      await reader.close();
    }
  });

  it("zero bytes from an unchanged file is TRUNCATED", async () => {
    const reader = await withFaults({ zero: 65535 });
    const error = await rejection(reader.read(toRanges([[8192, 4096]])));
    expect(error).toMatchObject({ code: "TRUNCATED", path, offsetBytes: 8192, lengthBytes: 4096 });
    await reader.close();
  });

  it("one failed read does not disturb the others", async () => {
    const seed = testSeed() >>> 0;
    const reader = await withFaults({ seed, ioError: 100 });
    const batches = Array.from({ length: 80 }, (_, i) => scattered(reader, 20, 3000, i));
    const outcomes = await Promise.allSettled(batches.map((ranges) => reader.read(ranges)));
    outcomes.forEach((outcome, i) => {
      if (outcome.status === "fulfilled") {
        expect(firstWrongView(outcome.value, batches[i], file), `seed ${seed}`).toBe(-1);
      } else {
        expect(outcome.reason).toMatchObject({ code: "IO_ERROR", errno: "EIO" });
      }
    });
    await reader.close();
  });
});
