import {
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { LatencyTable, parseDeviceProfile } from "@neuron-chunking/latency-model";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { profileDevice } from "../src/index.js";
import type { ProfileProgress } from "../src/index.js";
import { fitLatencyNs, median, quantile } from "../src/profiler/latency-fit.js";
import { ensureProbeFile } from "../src/profiler/probe-file.js";
import { rejection, temporaryDirectory, testSeed } from "./support.js";

const MIB = 1 << 20;
const directory = temporaryDirectory();
const temporaryMemory = temporaryDirectory("/dev/shm");

describe("the fit (P3)", () => {
  const sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256].map((kib) => kib * 1024);

  it("is monotone in T and in T/s for any measurements", () => {
    const latencies = fc.array(fc.double({ min: 1, max: 1e9, noNaN: true }), {
      minLength: sizes.length,
      maxLength: sizes.length,
    });
    fc.assert(
      fc.property(latencies, (measured) => {
        const fitted = fitLatencyNs(sizes, measured);
        for (let i = 1; i < sizes.length; i++) {
          expect(fitted[i]).toBeGreaterThanOrEqual(fitted[i - 1]);
          const perByte = fitted[i] / sizes[i];
          expect(perByte).toBeLessThanOrEqual((fitted[i - 1] / sizes[i - 1]) * (1 + 1e-12));
        }
      }),
      { seed: testSeed() },
    );
  });

  it("leaves alone what is monotone already", () => {
    const measured = sizes.map((size) => 20_000 + 0.5 * size);
    fitLatencyNs(sizes, measured).forEach((fitted, i) => {
      expect(fitted / measured[i]).toBeCloseTo(1, 6);
    });
  });

  it("recovers a noisy line", () => {
    const line = sizes.map((size) => 20_000 + 0.5 * size);
    const noisy = line.map((latency, i) => latency * (1 + (i % 2 === 0 ? 0.1 : -0.1)));
    fitLatencyNs(sizes, noisy).forEach((fitted, i) => {
      expect(Math.abs(fitted / line[i] - 1)).toBeLessThan(0.12);
    });
  });

  it("quantiles interpolate", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(quantile([10], 0.9)).toBe(10);
    expect(quantile([0, 10], 0.25)).toBe(2.5);
  });
});

describe("the probe file (P1)", () => {
  it("is incompressible, without holes, kept, and repaired when damaged", async () => {
    const path = await ensureProbeFile({ directory, fileBytes: 16 * MIB });
    const { size, blocks, mtimeMs } = statSync(path);
    expect(size).toBe(16 * MIB);
    expect(blocks * 512).toBeGreaterThanOrEqual(size);
    const bytes = readFileSync(path);
    const counts = new Array<number>(256).fill(0);
    for (const byte of bytes.subarray(0, MIB)) counts[byte]++;
    const entropyBits = counts.reduce((sum, n) => sum - (n / MIB) * Math.log2(n / MIB), 0);
    expect(entropyBits).toBeGreaterThan(7.99);

    expect(await ensureProbeFile({ directory, fileBytes: 16 * MIB })).toBe(path);
    expect(statSync(path).mtimeMs).toBe(mtimeMs);

    const zeros = Buffer.alloc(16 * MIB);
    writeSync(openSync(path, "r+"), zeros);
    expect(await ensureProbeFile({ directory, fileBytes: 16 * MIB })).toBe(path);
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  it("too little space is a clear error, before anything is written", async () => {
    const error = await rejection(ensureProbeFile({ directory, fileBytes: 2 ** 50 }));
    expect(error).toMatchObject({ code: "NO_SPACE", path: directory, errno: "ENOSPC" });
    expect(error.message).toContain(directory);
    expect(readdirSync(directory).some((name) => name.endsWith(".tmp"))).toBe(false);
  });

  it("an aborted writer leaves nothing behind", async () => {
    const controller = new AbortController();
    const fresh = join(directory, "aborted");
    const writing = ensureProbeFile({
      directory: fresh,
      fileBytes: 64 * MIB,
      signal: controller.signal,
      onFraction: () => {
        controller.abort();
      },
    });
    await expect(writing).rejects.toMatchObject({ name: "AbortError" });
    expect(readdirSync(fresh)).toEqual([]);
  });
});

describe("profileDevice", () => {
  it("measures a valid, monotone profile with the reader itself", async () => {
    const progress: ProfileProgress[] = [];
    const profile = await profileDevice({
      directory,
      fileBytes: 64 * MIB,
      threads: 4,
      onProgress: (step) => progress.push(step),
    });
    expect(parseDeviceProfile(JSON.parse(JSON.stringify(profile)))).toEqual(profile);
    expect(profile).toMatchObject({
      schemaVersion: 1,
      origin: "measured",
      reader: { backend: "pool", threads: 4 },
    });
    const { sizesBytes, latencyNs } = profile.table;
    expect(sizesBytes.some((size) => size % 512 !== 0)).toBe(true);
    for (let i = 1; i < sizesBytes.length; i++) {
      expect(latencyNs[i]).toBeGreaterThanOrEqual(latencyNs[i - 1]);
      const perByte = latencyNs[i] / sizesBytes[i];
      expect(perByte).toBeLessThanOrEqual((latencyNs[i - 1] / sizesBytes[i - 1]) * (1 + 1e-9));
    }
    expect(profile.samples).toHaveLength(sizesBytes.length);
    for (const { latencyNs: raw } of profile.samples ?? []) {
      expect(raw.length).toBeGreaterThanOrEqual(5);
    }
    expect(profile.noise?.relativeSpread).toBeGreaterThanOrEqual(0);
    expect(new LatencyTable(profile).latencyNs(4096)).toBeGreaterThan(0);
    for (const phase of ["probe-file", "measuring"] as const) {
      const fractions = progress.filter((step) => step.phase === phase).map((s) => s.fraction);
      expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
      expect(fractions.at(-1)).toBe(1);
    }
  });

  it("says so when the file system has no direct I/O", async ({ skip }) => {
    const { bavail, bsize } = statfsSync(temporaryMemory);
    // Containers often limit /dev/shm to 64 MiB.
    skip(bavail * bsize < 256 * MIB, "/dev/shm has too little room for a probe file");
    const profile = await profileDevice({ directory: temporaryMemory, fileBytes: 64 * MIB });
    expect(profile.reader).toMatchObject({ directIo: false, alignmentBytes: 1 });
    const refused = profileDevice({
      directory: temporaryMemory,
      fileBytes: 64 * MIB,
      directIo: "required",
    });
    expect(await rejection(refused)).toMatchObject({ code: "DIRECT_IO_UNSUPPORTED" });
  });

  it("stops when aborted in the middle of measuring", async () => {
    const controller = new AbortController();
    const profiling = profileDevice({
      directory,
      fileBytes: 64 * MIB,
      signal: controller.signal,
      onProgress: ({ phase, fraction }) => {
        if (phase === "measuring" && fraction > 0.1) controller.abort(new Error("enough"));
      },
    });
    await expect(profiling).rejects.toThrow("enough");
    expect(existsSync(directory)).toBe(true);
  });

  it("refuses sizes that cannot work", async () => {
    for (const fileBytes of [0, 63 * MIB, 64 * MIB + 1, NaN]) {
      expect(await rejection(profileDevice({ directory, fileBytes }))).toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
  });
});
