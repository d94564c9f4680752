import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { pciBytesPerSecond } from "../src/profiler/block-device.js";
import { cacheGrew, notTheDevice, tooFast } from "../src/profiler/cache-check.js";
import { FULL_EFFORT, QUICK_EFFORT } from "../src/profiler/effort.js";
import {
  interleave,
  largestNearBest,
  smallestNearBest,
  typicalNs,
} from "../src/profiler/interleave.js";
import { fitLatencyNs } from "../src/profiler/latency-fit.js";
import { Progress } from "../src/profiler/progress.js";
import type { ProfileProgress } from "../src/profiler/progress.js";
import { bytesInFlight, chooseGroup } from "../src/profiler/queue-sweep.js";
import { Random } from "../src/profiler/random.js";
import { randomPlan } from "../src/profiler/random-plan.js";
import { gapsToTry, readThroughFromTable } from "../src/profiler/read-through.js";
import { requestSizes } from "../src/profiler/request-sweep.js";
import { acceptedRounds, judgeRounds, missingRounds } from "../src/profiler/rounds.js";
import { geometricMean, median, quantile } from "../src/profiler/statistics.js";
import { steadyNs } from "../src/profiler/steady-reads.js";
import { faster, tableSizes } from "../src/profiler/table.js";
import { validatePlan } from "@neuron-chunking/latency-model";
import { testSeed } from "./support.js";

const KIB = 1024;
const MIB = 1024 * KIB;

describe("statistics", () => {
  it("quantiles interpolate", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(quantile([10], 0.9)).toBe(10);
    expect(quantile([0, 10], 0.25)).toBe(2.5);
    expect(geometricMean([1, 4])).toBeCloseTo(2, 12);
  });
});

describe("P3: the fit", () => {
  const sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256].map((kib) => kib * KIB);

  it("P3: is monotone in T and in T/s for any measurements", () => {
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

  it("P3: leaves alone what is monotone already", () => {
    const measured = sizes.map((size) => 20_000 + 0.5 * size);
    fitLatencyNs(sizes, measured).forEach((fitted, i) => {
      expect(fitted / measured[i]).toBeCloseTo(1, 6);
    });
  });

  it("P3: recovers a noisy line", () => {
    const line = sizes.map((size) => 20_000 + 0.5 * size);
    const noisy = line.map((latency, i) => latency * (1 + (i % 2 === 0 ? 0.1 : -0.1)));
    fitLatencyNs(sizes, noisy).forEach((fitted, i) => {
      expect(Math.abs(fitted / line[i] - 1)).toBeLessThan(0.12);
    });
  });
});

describe("steady state", () => {
  const counts = [10, 10, 10, 10, 10, 10, 10, 10];
  // 5 us a read, and 20 us until the first one is done.
  const ends = counts.map((_, i) => 20_000 + (i + 1) * 50_000);

  it("is the slope between the ends of batches: the start from an idle device does not count", () => {
    expect(steadyNs(counts, ends)).toBeCloseTo(5000, 6);
    expect(steadyNs([1, 2, 3], [5000, 15_000, 30_000])).toBeCloseTo(5000, 6);
    expect(steadyNs([4], [8000])).toBe(2000);
  });

  it("is not misled by a straggler, nor by batches that end out of order", () => {
    const straggler = ends.map((end, i) => (i === 2 ? end + 120_000 : end));
    expect(steadyNs(counts, straggler)).toBeCloseTo(5000, 6);
    // All end together: the slope is 0, which no device is.
    const together = counts.map((_, i) => 400_000 + i);
    expect(steadyNs(counts, together)).toBeCloseTo(5000, 0);
    const backwards = [...ends].reverse();
    expect(steadyNs(counts, backwards)).toBeCloseTo(420_000 / 80, 6);
  });
});

describe("R2: comparing settings", () => {
  it("R2: takes the smallest depth within 3 % of the peak", () => {
    const depths = [1, 2, 4, 8, 16, 32, 64];
    expect(smallestNearBest(depths, [80, 40, 20, 12, 10.2, 10, 10.1])).toBe(16);
    expect(smallestNearBest(depths, [80, 40, 20, 12, 10.4, 10, 9.9])).toBe(32);
    expect(smallestNearBest(depths, [5, 5, 5, 5, 5, 5, 5])).toBe(1);
    expect(largestNearBest([4, 8, 16, 32, 64], [10, 10.1, 10.2, 10.29, 11])).toBe(32);
    expect(largestNearBest([4, 8, 16, 32, 64], [9, 10, 10, 10, 10])).toBe(4);
  });

  it("R2: finds the same depth on a machine whose speed swings by half between rounds", async () => {
    const seed = testSeed();
    const noise = new Random(seed);
    const depths = [1, 2, 4, 8, 16, 32, 64, 128, 256];
    // A device with 30 lanes of 80 us each: 16 in flight are not enough, 32 and more are.
    const trueNs = depths.map((depth) => 80_000 / Math.min(depth, 30));
    let calls = 0;
    let swing = 1;
    const candidates = trueNs.map((ns) => () => {
      if (calls++ % depths.length === 0) swing = 0.5 + noise.share();
      // And every tenth sample is hit by something else.
      const hit = noise.below(10) === 0 ? 3 : 1;
      return Promise.resolve(ns * swing * hit * (1 + 0.004 * (noise.share() - 0.5)));
    });
    const options = { rounds: 10, finalRounds: 20, random: new Random(3) };
    const samples = await interleave(candidates, options);
    const typical = typicalNs(samples);
    expect(smallestNearBest(depths, typical), `seed ${seed}`).toBe(32);
    // Those that cannot win are not measured to the end.
    expect(samples[0]).toHaveLength(10);
    expect(samples[8]).toHaveLength(30);
  });

  it("R2: every round takes every candidate once, in changing orders", async () => {
    const seen: number[] = [];
    const candidates = [0, 1, 2, 3, 4, 5].map((i) => () => {
      seen.push(i);
      return Promise.resolve(1 + i / 100);
    });
    const samples = await interleave(candidates, { rounds: 8, random: new Random(7) });
    expect(samples.map((times) => times.length)).toEqual([8, 8, 8, 8, 8, 8]);
    const orders = Array.from({ length: 9 }, (_, r) => seen.slice(6 * r, 6 * r + 6));
    for (const order of orders) expect([...order].sort()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(new Set(orders.map(String)).size).toBeGreaterThan(4);
  });

  it("R2: a device that is very slow is compared in four rounds, not in all", async () => {
    const candidates = [1, 2, 3].map((ns) => () => Promise.resolve(ns));
    const options = { rounds: 9, finalRounds: 9, random: new Random(5) };
    const rounds = (samples: number[][]): number[] => samples.map((times) => times.length);
    expect(rounds(await interleave(candidates, { ...options, budgetNs: 0 }))).toEqual([4, 4, 4]);
    const near = [1, 1.1, 3].map((ns) => () => Promise.resolve(ns));
    expect(rounds(await interleave(near, options))).toEqual([18, 18, 9]);
  });

  it("R2: groups of requests are of 16 or more unless a small one is faster round by round", () => {
    const settings = [4, 8, 16, 32, 64];
    const choose = (...samples: number[][]) =>
      chooseGroup({ settings, timesNs: typicalNs(samples), samples });
    const same = [10, 20, 15, 12];
    expect(choose(same, same, same, same, same)).toBe(16);
    const slower = same.map((ns) => ns * 1.1);
    expect(choose(same, same, same, slower, slower)).toBe(16);
    expect(choose(same, same, slower, slower, slower)).toBe(8);
    expect(choose(slower, slower, slower, same, same)).toBe(32);
    // 10 % faster in half of the rounds only: that is noise.
    const lucky = same.map((ns, round) => (round < 2 ? 0.9 * ns : ns));
    expect(choose(lucky, lucky, same, same, slower)).toBe(16);
    expect(chooseGroup({ settings: [4, 8], timesNs: [10, 10], samples: [same, same] })).toBe(8);
  });

  it("R2: bytes in flight hold two large requests and as many small ones as pay off", () => {
    const settings = [1, 2, 4, 8];
    expect(bytesInFlight({ settings, timesNs: [10, 10, 10, 10] }, { queueDepth: 8 })).toBe(
      512 * KIB,
    );
    expect(bytesInFlight({ settings, timesNs: [40, 20, 10, 9.9] }, { queueDepth: 8 })).toBe(MIB);
    expect(bytesInFlight({ settings, timesNs: [10, 10, 10, 10] }, { queueDepth: 256 })).toBe(MIB);
  });

  it("R3: tries request sizes up to 1 MiB, the device's own, and no more than half of what may be in flight", () => {
    expect(requestSizes(undefined)).toEqual([128, 256, 512, 1024].map((k) => k * KIB));
    expect(requestSizes(640 * KIB)).toEqual([128, 256, 512, 640, 1024].map((k) => k * KIB));
    expect(requestSizes(4 * MIB)).toEqual([128, 256, 512, 1024].map((k) => k * KIB));
    expect(requestSizes(127.5 * KIB, 600 * KIB)).toEqual([128, 256].map((k) => k * KIB));
  });
});

describe("R3: gaps to read through", () => {
  const sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256].map((kib) => kib * KIB);

  it("R3: is what a request costs besides its bytes, divided by what a byte costs", () => {
    // 10 us and 1 ns a byte: 10 000 bytes, which are 19 blocks of 512.
    const line = sizes.map((size) => 10_000 + size);
    expect(readThroughFromTable(sizes, line, 256 * KIB, 512)).toBe(19 * 512);
    expect(readThroughFromTable(sizes, line, 256 * KIB, 4096)).toBe(2 * 4096);
    expect(readThroughFromTable(sizes, line, 256 * KIB, 1)).toBe(10_000);
  });

  it("R3: is bounded, and 0 when requests cost nothing", () => {
    const flat = sizes.map(() => 5000);
    expect(readThroughFromTable(sizes, flat, 256 * KIB, 512)).toBe(64 * KIB);
    const perByte = sizes.map((size) => size / 2);
    expect(readThroughFromTable(sizes, perByte, KIB, 512)).toBe(0);
    const dear = sizes.map((size) => 1e6 + size);
    expect(readThroughFromTable(sizes, dear, 256 * KIB, 512)).toBe(64 * KIB);
  });

  it("R3: only sizes up to saturation count", () => {
    const bent = sizes.map((size) => (size <= 64 * KIB ? 10_000 + size : 5 * size));
    expect(readThroughFromTable(sizes, bent, 64 * KIB, 512)).toBe(19 * 512);
  });

  it("R3: smaller gaps are tried too, in whole blocks", () => {
    expect(gapsToTry(19 * 512, 512)).toEqual([19 * 512, 9 * 512, 4 * 512]);
    expect(gapsToTry(4096, 4096)).toEqual([4096]);
    expect(gapsToTry(0, 512)).toEqual([]);
  });
});

describe("P2: rounds", () => {
  const steady = [100, 101, 99, 100, 100];

  it("P2: a round more than 3 % off is flagged, one more than 20 % off is rejected and repeated", () => {
    const slow = (factors: number[]) => steady.map((ns, i) => ns * factors[i]);
    const rounds = judgeRounds([1, 2, 3].map(() => slow([1, 1.1, 1, 1.5, 1])));
    expect(rounds.map((r) => r.flagged)).toEqual([false, true, false, true, false]);
    expect(rounds.map((r) => r.rejected)).toEqual([false, false, false, true, false]);
    expect(rounds[3].deviation).toBeCloseTo(0.5, 2);
    expect(missingRounds(rounds, 5)).toBe(1);
    expect(missingRounds([], 5)).toBe(5);
    const { samples, unsteady } = acceptedRounds([slow([1, 1.1, 1, 1.5, 1])], rounds);
    expect(unsteady).toBe(false);
    expect(samples[0]).toHaveLength(4);
    expect(Math.max(...samples[0])).toBeLessThan(120);
  });

  it("P2: one size that deviates does not reject a round", () => {
    const samples = [steady, steady, steady.map((ns, i) => (i === 2 ? 5 * ns : ns))];
    expect(judgeRounds(samples).some((round) => round.flagged)).toBe(false);
  });

  it("P2: where nearly all rounds deviate, all of them count and the profile says so", () => {
    const wild = [100, 200, 400, 800, 1600];
    const rounds = judgeRounds([wild, wild]);
    expect(rounds.filter((round) => round.rejected)).toHaveLength(4);
    expect(acceptedRounds([wild, wild], rounds)).toEqual({ samples: [wild, wild], unsteady: true });
  });

  it("P2: a rate above the link's, or of memory where the link is unknown, is suspicious", () => {
    // 1 MiB in 100 us are 10.5 GB/s.
    const table = { sizesBytes: [4096, MIB], latencyNs: [2000, 100_000] };
    const gen4x4 = pciBytesPerSecond("16.0 GT/s PCIe", "4");
    expect(gen4x4).toBeCloseTo(7.877e9, -7);
    expect(tooFast(table, gen4x4)?.message).toContain("link");
    expect(tooFast(table, pciBytesPerSecond("32.0 GT/s PCIe", "4"))).toBeUndefined();
    expect(tooFast(table, undefined)).toBeUndefined();
    expect(tooFast({ ...table, latencyNs: [2000, 30_000] }, undefined)?.got).toBeGreaterThan(30e9);
    expect(pciBytesPerSecond("Unknown", "0")).toBeUndefined();
    expect(pciBytesPerSecond("5.0 GT/s PCIe", "2")).toBe(1e9);
  });

  it("P2: growth of the page cache is suspicious, and rejected in words", () => {
    expect(cacheGrew(MIB, MIB)).toBeUndefined();
    expect(cacheGrew(MIB, 3 * MIB)).toBeUndefined();
    expect(cacheGrew(undefined, MIB)).toBeUndefined();
    const suspicion = cacheGrew(0, 256 * MIB);
    expect(suspicion).toBeDefined();
    if (suspicion === undefined) return;
    const error = notTheDevice("/mnt/probe", suspicion);
    expect(error).toMatchObject({ code: "DIRECT_IO_UNSUPPORTED", path: "/mnt/probe" });
    expect(error.message).toContain('directIo: "disabled"');
  });
});

describe("R4: the backend", () => {
  const table = (name: "io_uring" | "pool", factor: number) => ({
    name,
    table: { sizesBytes: [KIB, 2 * KIB], latencyNs: [1000 * factor, 2000 / factor ** 0.5] },
    samples: [],
  });

  it("R4: is the one with the lower geometric mean, io_uring within 3 %", () => {
    const pool = table("pool", 1);
    expect(faster([table("io_uring", 1.1), pool]).name).toBe("io_uring");
    expect(faster([table("io_uring", 1.2), pool]).name).toBe("pool");
    expect(faster([table("io_uring", 0.5), pool]).name).toBe("io_uring");
    expect(faster([pool]).name).toBe("pool");
  });
});

describe("P5: random plans", () => {
  it("P5: are valid, repeatable, and from a few chunks to hundreds", () => {
    const counts: number[] = [];
    const random = new Random(11);
    for (let i = 0; i < 200; i++) {
      const shape = { rowBytes: 1792, rows: 9000, maxChunks: 512, maxChunkBytes: 65_536 };
      const plan = randomPlan(random, shape);
      validatePlan(plan, shape.rows);
      counts.push(plan.chunkCount);
    }
    expect(Math.min(...counts)).toBeLessThan(4);
    expect(Math.max(...counts)).toBeGreaterThan(100);
    const shape = { rowBytes: 896, rows: 50, maxChunks: 8, maxChunkBytes: 4096 };
    expect(randomPlan(new Random(5), shape)).toEqual(randomPlan(new Random(5), shape));
  });
});

describe("effort", () => {
  it("P1: full mode warms up for at least 3 s and spans 2 GiB; both measure 5 rounds or more", () => {
    expect(FULL_EFFORT.warmUpNs).toBeGreaterThanOrEqual(3e9);
    expect(FULL_EFFORT.fileBytes).toBe(2048 * MIB);
    for (const effort of [QUICK_EFFORT, FULL_EFFORT]) {
      expect(effort.tableRounds).toBeGreaterThanOrEqual(5);
      const sizes = tableSizes(effort);
      expect(sizes).toEqual([...new Set(sizes)].sort((a, b) => a - b));
      expect(sizes).toContain(1792);
      expect(sizes).toContain(37 * KIB);
    }
  });

  it("progress never falls, even when a phase is measured again", () => {
    const seen: ProfileProgress[] = [];
    const progress = new Progress((step) => seen.push(step));
    progress.of("probe-file")(1);
    progress.of("table")(0.5);
    progress.of("queue")(0.5);
    progress.of("batches")(1);
    const fractions = seen.map((step) => step.fraction);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions[0]).toBeCloseTo(0.1, 9);
    expect(fractions.at(-1)).toBeCloseTo(1, 9);
  });
});
