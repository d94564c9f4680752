import { appendFileSync, renameSync, truncateSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import type { ReadResult } from "../src/index.js";
import { FlashReader } from "../src/index.js";
import { describeEachBackend } from "./backends.js";
import { firstWrongView, rejection, scattered, temporaryDirectory } from "./support.js";
import { testSeed, toRanges, writeNoise } from "./support.js";

const directory = temporaryDirectory();
const SIZE_BYTES = 4 << 20;

describeEachBackend("R9: a file", (options, name) => {
  const newVictim = (what: string) => {
    const path = join(directory, `${what}-${name.replace(" ", "-")}.bin`);
    return { path, file: writeNoise(path, SIZE_BYTES) };
  };

  /** Changes the file while reads are under way: each gives the bytes of before or says FILE_CHANGED. */
  async function changeDuringReads(path: string, file: Buffer, change: () => void) {
    // A file written to within the same tick of the kernel's clock would look unchanged.
    await sleep(20);
    const seed = testSeed();
    const reader = await FlashReader.open(path, { ...options, tuning: { threads: 2 } });
    const batches = Array.from({ length: 9 }, (_, i) => scattered(reader, 150, 4096, seed + i));
    // One read more is started after every turn, so that some are before, during and after.
    const reads: Promise<ReadResult>[] = [];
    for (const [i, ranges] of batches.entries()) {
      if (i === 5) change();
      reads.push(reader.read(ranges));
      reads.at(-1)?.catch(() => undefined);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const outcomes = await Promise.allSettled(reads);
    outcomes.forEach((outcome, i) => {
      if (outcome.status === "rejected") {
        expect(outcome.reason, `seed ${seed}`).toMatchObject({ code: "FILE_CHANGED", path });
      } else {
        expect(firstWrongView(outcome.value, batches[i], file), `seed ${seed}`).toBe(-1);
      }
    });
    const late = outcomes.slice(5).map((outcome) => outcome.status);
    expect(late, `seed ${seed}`).toEqual(late.map(() => "rejected"));
    const error = await rejection(reader.read(toRanges([[3 << 20, 4096]])));
    expect(error).toMatchObject({ code: "FILE_CHANGED", path });
    expect(error.message).toContain("open the file again");
    await reader.close();
    return error;
  }

  it("truncated during reads is a FILE_CHANGED error that says where", async () => {
    const { path, file } = newVictim("truncated");
    const error = await changeDuringReads(path, file, () => {
      truncateSync(path, 100_000);
    });
    expect(error).toMatchObject({ offsetBytes: 3 << 20 });
  });

  it("replaced during reads by another of the same size is FILE_CHANGED", async () => {
    const { path, file } = newVictim("replaced");
    const other = `${path}.new`;
    writeNoise(other, SIZE_BYTES, 2);
    await changeDuringReads(path, file, () => {
      renameSync(other, path);
    });
  });

  it("grown during reads is FILE_CHANGED", async () => {
    const { path, file } = newVictim("grown");
    await changeDuringReads(path, file, () => {
      appendFileSync(path, "more");
    });
  });

  it("written to in place is FILE_CHANGED", async () => {
    const { path } = newVictim("written");
    const reader = await FlashReader.open(path, options);
    await reader.read(toRanges([[0, 5000]]));
    await sleep(20);
    writeNoise(path, SIZE_BYTES, 3);
    expect(await rejection(reader.read(toRanges([[0, 5000]])))).toMatchObject({
      code: "FILE_CHANGED",
      path,
    });
    await reader.close();
  });

  it("unlinked during reads is still the same file", async () => {
    const { path, file } = newVictim("unlinked");
    const reader = await FlashReader.open(path, options);
    const ranges = scattered(reader, 150, 4096, 1);
    const before = reader.read(ranges);
    unlinkSync(path);
    for (const result of [await before, await reader.read(ranges)]) {
      expect(firstWrongView(result, ranges, file)).toBe(-1);
    }
    await reader.close();
  });
});
