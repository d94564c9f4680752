import { constants, mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { BACKENDS } from "./backends.js";
import { runCommand } from "./child.js";
import { firstWrongView, rejection, scattered, script, temporaryDirectory } from "./support.js";
import { toRanges, withReader, writeNoise } from "./support.js";

const directory = temporaryDirectory();
const path = join(directory, "data.bin");
const inMemory = join(temporaryDirectory("/dev/shm"), "data.bin");
const SIZE_BYTES = 8 << 20;
const file = writeNoise(path, SIZE_BYTES);
writeNoise(inMemory, SIZE_BYTES);
const hasRing = BACKENDS.some(({ name, refusal }) => name === "io_uring buffered" && !refusal);

describe("R6: direct I/O", () => {
  it("is really in use on the descriptor that reads", async () => {
    await withReader(path, {}, async (reader) => {
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
      const { O_DIRECT } = constants;
      const direct = (parseInt(flags[0] ?? "0", 8) & O_DIRECT) !== 0;
      expect(direct).toBe(reader.backend.directIo);
      if (!direct) expect(reader.backend.refused).not.toEqual([]);
    });
  });
});

describe("R11: memory file systems", () => {
  it("are buffered when optional, refused when required", async () => {
    const error = await rejection(FlashReader.open(inMemory, { directIo: "required" }));
    expect(error).toMatchObject({
      code: "DIRECT_IO_UNSUPPORTED",
      path: inMemory,
      errno: "ENOTSUP",
    });
    const reader = await FlashReader.open(inMemory, { directIo: "optional" });
    const refusal = { reason: expect.stringMatching(/memory/) as string, errno: "ENOTSUP" };
    expect(reader.backend).toEqual({
      name: "pool",
      directIo: false,
      tier: "pool-buffered",
      refused: [
        { tier: "io_uring-direct", ...refusal },
        { tier: "pool-direct", ...refusal },
      ],
    });
    expect(reader.alignmentBytes).toBe(1);
    const ranges = scattered(reader, 100, 1792, 9);
    expect(firstWrongView(await reader.read(ranges), ranges, file)).toBe(-1);
    await reader.close();
  });

  it("refuse only tiers of the backend that was asked for", async () => {
    const reasons = (backend: "io_uring" | "pool") =>
      withReader(inMemory, { backend }, async (reader) => {
        const ranges = scattered(reader, 30, 1792, 9);
        expect(firstWrongView(await reader.read(ranges), ranges, file)).toBe(-1);
        return reader.backend.refused.map(({ tier }) => tier);
      });
    expect(await reasons("pool")).toEqual(["pool-direct"]);
    if (hasRing) expect(await reasons("io_uring")).toEqual(["io_uring-direct"]);
  });
});

describe("R11: overlay file systems", () => {
  it("give the right bytes or a typed error, and notice a copy taken on writing", async (context) => {
    const [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map((name) => {
      const made = join(directory, name);
      mkdirSync(made);
      return made;
    });
    writeNoise(join(lower, "data.bin"), SIZE_BYTES);
    const overlay = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    const MOUNT_REFUSED = 77;
    const mountAndRun = `mount -t overlay overlay -o "$1" "$2" || exit ${MOUNT_REFUSED}; shift 2; exec "$@"`;
    const command = ["sh", "-c", mountAndRun, "sh", overlay, merged];
    const program = [process.execPath, script("overlay.mjs"), join(merged, "data.bin")];
    // A mount namespace of its own, as root or as root of a user namespace; it ends with the process.
    const asUser = process.getuid?.() === 0 ? "-m" : "-rm";
    const outcome = await runCommand("unshare", [asUser, ...command, ...program]);
    if (outcome.code !== 0 && !outcome.errors.includes("overlay.mjs")) {
      const reason = `no overlay can be mounted here: ${outcome.errors.trim()}`;
      console.warn(`R11 over an overlay is skipped: ${reason}`);
      context.skip(reason);
    }
    expect(outcome).toMatchObject({ code: 0, errors: "" });
    const { outcomes, change } = JSON.parse(outcome.output) as {
      outcomes: { backend: string; directIo: string; right?: boolean; code?: string }[];
      change: string;
    };
    expect(outcomes).toHaveLength(9);
    for (const { backend, directIo, right, code } of outcomes) {
      const refusals = [
        ...(directIo === "required" ? ["DIRECT_IO_UNSUPPORTED"] : []),
        ...(backend === "io_uring" ? ["BACKEND_UNSUPPORTED"] : []),
      ];
      if (code === undefined) expect(right, `${backend} ${directIo}`).toBe(true);
      else expect(refusals, `${backend} ${directIo}`).toContain(code);
    }
    expect(outcomes.filter(({ right }) => right).length).toBeGreaterThanOrEqual(3);
    expect(change).toBe("FILE_CHANGED");
  });
});
