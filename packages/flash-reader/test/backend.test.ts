import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { BACKENDS, describeEachBackend } from "./backends.js";
import { resultOf, runCommand, runScript } from "./child.js";
import { script, temporaryDirectory, withReader, writeNoise } from "./support.js";

const path = join(temporaryDirectory(), "data.bin");
writeNoise(path, 8 << 20);

const has = (name: string) => BACKENDS.find((one) => one.name === name)?.refusal === undefined;
const hasRing = has("io_uring direct");
const TIERS = ["io_uring-direct", "pool-direct", "pool-buffered"];

/** What scripts/limits.mjs says of one reader. */
interface Outcome {
  right?: boolean;
  tier?: string;
  refused?: { tier: string; reason: string; errno?: string }[];
  code?: string;
  errno?: string;
}

describeEachBackend("R4: an explicit backend", (options, name) => {
  it("is the one in use, and nothing was refused", async () => {
    await withReader(path, options, async (reader) => {
      expect(reader.backend).toEqual({
        name: options.backend,
        directIo: options.directIo === "required",
        tier: name.replace(" ", "-"),
        refused: [],
      });
      expect(reader.alignmentBytes > 1).toBe(reader.backend.directIo);
      await Promise.resolve();
    });
  });
});

describe("R4: the ladder", () => {
  it("takes the best tier and tells of better ones that were refused", async () => {
    await withReader(path, {}, async ({ backend }) => {
      const best = hasRing
        ? "io_uring-direct"
        : has("pool direct")
          ? "pool-direct"
          : "pool-buffered";
      expect(backend.tier).toBe(best);
      expect(backend.refused.map(({ tier }) => tier)).toEqual(TIERS.slice(0, TIERS.indexOf(best)));
      await Promise.resolve();
    });
  });

  it("ends at the pool for buffered reads, which are no better in a ring", async () => {
    await withReader(path, { directIo: "disabled" }, async ({ backend }) => {
      expect(backend).toEqual({
        name: "pool",
        directIo: false,
        tier: "pool-buffered",
        refused: [],
      });
      await Promise.resolve();
    });
  });
});

describe("R5: limits of the shell", () => {
  const underLimit = (limit: string, ...more: string[]) =>
    resultOf<Record<string, Outcome>>(
      runCommand("sh", [
        "-c",
        `${limit}; exec "$@"`,
        "sh",
        process.execPath,
        script("limits.mjs"),
        path,
        "{}",
        ...more,
      ]),
    );

  it("64 KiB of locked memory: right bytes, and what was refused has its errno", async () => {
    const { free } = await underLimit("ulimit -l 64");
    expect(free.right).toBe(true);
    expect(TIERS).toContain(free.tier);
    for (const { errno } of free.refused ?? []) expect(errno).toMatch(/^E[A-Z]+$/);
  });

  it("32 descriptors: a ring while they last, then the pool, then a typed error", async () => {
    const outcomes = await underLimit("ulimit -n 32", "descriptors");
    expect(outcomes.free).toMatchObject({ right: true });
    expect(outcomes.none).toEqual({ code: "OPEN_FAILED", errno: "EMFILE" });
    const descriptors = [outcomes.one, outcomes.two, outcomes.three];
    for (const outcome of descriptors) expect(outcome).toMatchObject({ right: true });
    if (!hasRing) return;
    expect(descriptors.map(({ tier }) => tier)).toEqual([
      "pool-direct",
      "pool-direct",
      "io_uring-direct",
    ]);
    for (const { refused } of descriptors.slice(0, 2)) {
      expect(refused).toMatchObject([{ tier: "io_uring-direct", errno: "EMFILE" }]);
    }
    // R4: what was asked for by name is never replaced.
    expect(outcomes.explicit).toEqual({ code: "BACKEND_UNSUPPORTED", errno: "EMFILE" });
  });

  it("no limit: the same program takes the best tier", async () => {
    const { free } = await resultOf<Record<string, Outcome>>(runScript("limits.mjs", path));
    expect(free.right).toBe(true);
    await withReader(path, {}, async ({ backend }) => {
      expect(free.tier).toBe(backend.tier);
      await Promise.resolve();
    });
  });
});

it("R5: an error about a backend says what to do", async () => {
  const refused = BACKENDS.find(({ refusal }) => refusal?.startsWith("BACKEND_UNSUPPORTED"));
  if (refused === undefined) return;
  await expect(FlashReader.open(path, refused.options)).rejects.toMatchObject({
    code: "BACKEND_UNSUPPORTED",
    path,
    message: expect.stringContaining('backend: "auto"') as string,
  });
});
