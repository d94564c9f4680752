import { mkdtemp, readFile, rm, truncate } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { ReadResult } from "@neuron-chunking/flash-reader";
import { planFromRows } from "@neuron-chunking/latency-model";
import { describe, expect, it } from "vitest";
import { alternatingOrder, runRounds } from "../src/bench/alternating";
import { iolog, widen } from "../src/bench/fio/iolog";
import { jobFile } from "../src/bench/fio/job-file";
import { parseFioOutput, randomThroughput, throughput } from "../src/bench/fio/parse-output";
import { noiseOfRepeats, splitMasks } from "../src/bench/latency-model/evaluate";
import { planRanges } from "../src/bench/plan-ranges";
import { RandomPlaces } from "../src/bench/reader/random-reads";
import { compare, noiseOf } from "../src/bench/statistics-of-rounds";
import { verifySample } from "../src/bench/verify";
import { uniformGenerator } from "../src/random";
import { ensureRandomFile, randomFileBytes } from "../src/random-file";
import { median, quantile, relativeSpread } from "../src/statistics";

describe("fio's output", () => {
  const captured = async (): Promise<ReturnType<typeof parseFioOutput>> =>
    parseFioOutput(await readFile(new URL("fixtures/fio-3.33.txt", import.meta.url), "utf8"));

  it("is read job by job, after a warning and with a job that failed", async () => {
    expect(await captured()).toEqual([
      { name: "random", error: 0, bytes: 94175232, reads: 1430, runtimeMs: 101 },
      { name: "threads", error: 0, bytes: 14647296, reads: 3576, runtimeMs: 108 },
      { name: "failing", error: 22, bytes: 0, reads: 0, runtimeMs: 0 },
      { name: "replay", error: 0, bytes: 790528, reads: 100, runtimeMs: 4 },
    ]);
  });

  it("gives rates: fio's own bandwidth, and none for a job that failed", async () => {
    const [random, threads, failing] = await captured();
    // fio printed bw_bytes 135623111 for the second job.
    expect(throughput(threads) * 1e9).toBeCloseTo(135623111, -1);
    expect(throughput(failing)).toBe(0);
    // Depth 8: the seven reads under way when the ramp-up ended count half.
    expect(random.bytes - random.reads * 65536).toBe(7 * 65536);
    expect(randomThroughput(random, 65536)).toBeCloseTo((1433.5 * 65536) / 101e6, 9);
  });

  it("without a document is an error", () => {
    expect(() => parseFioOutput("fio: engine none not loadable\n")).toThrow(SyntaxError);
  });
});

describe("what fio is told", () => {
  it("runs jobs one after the other: depth, threads, or an iolog", () => {
    const text = jobFile(
      [
        {
          name: "a",
          configuration: { engine: "io_uring", depth: 32 },
          work: { sizeBytes: 4096, runtimeMs: 250, rampMs: 20 },
        },
        {
          name: "b",
          configuration: { engine: "psync", depth: 8 },
          work: { iolog: "logs/x.iolog", rampMs: 0 },
        },
      ],
      { fileName: "file.bin", directIo: true },
    );
    const [global, a, b] = text.split(/^\[.*\]$/m).slice(1);
    expect(global).toContain("direct=1\n");
    for (const line of ["stonewall", "iodepth=32", "bs=4096", "runtime=250ms", "ramp_time=20ms"]) {
      expect(a).toContain(`${line}\n`);
    }
    for (const line of ["stonewall", "numjobs=8", "read_iolog=logs/x.iolog"]) {
      expect(b).toContain(`${line}\n`);
    }
    expect(b).not.toContain("ramp_time");
  });

  it("replays the rows of a plan, widened to whole blocks inside the file", () => {
    const ranges = planRanges(planFromRows([1, 2, 7]), 896, 4096);
    expect(ranges).toEqual([
      { offsetBytes: 4992, lengthBytes: 1792 },
      { offsetBytes: 10368, lengthBytes: 896 },
    ]);
    const wide = ranges.map((range) => widen(range, 512, 11264));
    expect(wide).toEqual([
      { offsetBytes: 4608, lengthBytes: 2560 },
      { offsetBytes: 10240, lengthBytes: 1024 },
    ]);
    expect(widen({ offsetBytes: 10, lengthBytes: 5 }, 4096, 1000)).toEqual({
      offsetBytes: 0,
      lengthBytes: 1000,
    });
    expect(iolog("file.bin", wide)).toBe(
      "fio version 2 iolog\nfile.bin add\nfile.bin open\n" +
        "file.bin read 4608 2560\nfile.bin read 10240 1024\nfile.bin close\n",
    );
  });
});

describe("rounds", () => {
  it("alternate ABBA, so that a steady drift favours neither", () => {
    const order = [0, 1, 2, 3].map((round) => alternatingOrder(["A", "B"], round).join(""));
    expect(order).toEqual(["AB", "BA", "BA", "AB"]);
    // Whatever grows linearly adds up to the same for both.
    const sums = { A: 0, B: 0 };
    [...order.join("")].forEach((name, time) => (sums[name as "A" | "B"] += time));
    expect(sums.A).toBe(sums.B);
  });

  it("are done at least and at most as often as asked, in turn, and fit the time", async () => {
    let clockMs = 0;
    const log: string[] = [];
    const section = (name: string, minRounds: number, maxRounds: number) => ({
      name,
      minRounds,
      maxRounds,
      runRound: (round: number) => {
        log.push(`${name}${round}`);
        clockMs += 1e7;
        return Promise.resolve();
      },
    });
    const remaining = (budgetMs: number) => () => budgetMs - clockMs;
    const without = await runRounds([section("a", 2, 9), section("b", 1, 9)], remaining(0));
    expect(without).toEqual([2, 1]);
    expect(log).toEqual(["a0", "b0", "a1"]);
    clockMs = 0;
    const ample = await runRounds([section("a", 2, 3), section("b", 1, 5)], remaining(1e9));
    expect(ample).toEqual([3, 5]);
  });

  it("are compared within each round: drift between rounds does not count", () => {
    const rounds = [
      { readerNs: 100, fioNs: 110 },
      { readerNs: 200, fioNs: 220 },
      { readerNs: 400, fioNs: 440 },
    ];
    const compared = compare(rounds);
    expect(compared.ratioToFio).toBeCloseTo(1.1, 12);
    expect(compared.readerNs).toBe(200);
    const noise = noiseOf([compared]);
    expect(noise.ratioSpread).toBeCloseTo(0, 12);
    expect(noise.readerSpread).toBeCloseTo(1.5, 12);
  });

  it("without fio have no ratio, and one alone no spread", () => {
    const compared = compare([{ readerNs: 5, fioNs: null }]);
    expect(compared).toMatchObject({ readerNs: 5, fioNs: null, ratioToFio: null });
    expect(noiseOf([compared])).toMatchObject({ readerSpread: null, ratioSpread: null });
  });
});

describe("random places", () => {
  it("are whole slots of the file, none twice in a batch, all of them in the end", () => {
    const places = new RandomPlaces(64 * 4096 + 100, 4096, uniformGenerator(1));
    const offsets = new Float64Array(64);
    const seen = new Set<number>();
    for (let batch = 0; batch < 40; batch += 1) {
      places.draw(offsets, 16);
      const drawn = [...offsets.subarray(0, 16)];
      expect(new Set(drawn).size).toBe(16);
      for (const offset of drawn) {
        expect(offset % 4096).toBe(0);
        expect(offset).toBeLessThan(64 * 4096);
        seen.add(offset);
      }
    }
    expect(seen.size).toBe(64);
  });
});

describe("the check of what was read", () => {
  const ranges = [
    { offsetBytes: 100, lengthBytes: 50_000 },
    { offsetBytes: 60_000, lengthBytes: 896 },
  ];
  const resultOf = (views: Uint8Array[]): ReadResult =>
    ({ view: (index: number) => views[index] }) as unknown as ReadResult;
  const right = (): Buffer[] =>
    ranges.map(({ offsetBytes, lengthBytes }) => randomFileBytes(offsetBytes, lengthBytes));

  it("passes the file's bytes", () => {
    expect(verifySample(resultOf(right()), ranges)).toBe(2);
  });

  it.each([
    ["a wrong first byte", (views: Buffer[]) => (views[0][0] ^= 1)],
    ["a wrong last byte", (views: Buffer[]) => (views[1][895] ^= 1)],
    ["a view of another place", (views: Buffer[]) => (views[0] = randomFileBytes(101, 50_000))],
    ["a short view", (views: Buffer[]) => (views[0] = views[0].subarray(0, 49_999))],
  ])("refuses %s", (_, damage) => {
    const views = right();
    damage(views);
    expect(() => verifySample(resultOf(views), ranges)).toThrow(/wrong bytes/);
  });
});

describe("statistics", () => {
  it("interpolate between order statistics", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(quantile([10, 0], 0.99)).toBeCloseTo(9.9, 12);
    expect(relativeSpread([90, 100, 120])).toBeCloseTo(0.3, 12);
  });

  it("say how far repeats of one mask deviate", () => {
    expect(noiseOfRepeats([[100, 100, 130], [50], [10, 20, 30]])).toBeCloseTo(0.1, 12);
  });
});

describe("the split of masks", () => {
  it("halves every row size and kind, and no mask is on both sides", () => {
    const masks = [896, 7168].flatMap((rowBytes) =>
      (["random", "selected"] as const).flatMap((kind) =>
        Array.from({ length: 10 }, (_, id) => ({ kind, rowBytes, id })),
      ),
    );
    const { fitted, heldOut } = splitMasks(masks);
    expect(new Set([...fitted, ...heldOut]).size).toBe(masks.length);
    for (const half of [fitted, heldOut]) {
      for (const rowBytes of [896, 7168]) {
        for (const kind of ["random", "selected"]) {
          expect(half.filter((m) => m.rowBytes === rowBytes && m.kind === kind)).toHaveLength(5);
        }
      }
    }
  });
});

describe("a file of random bytes", () => {
  it("holds at every place what can be computed again, and is made anew when damaged", async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-random-"));
    try {
      const sizeBytes = 9 * 2 ** 20 + 5;
      const file = path.join(folder, "file.bin");
      const make = () => ensureRandomFile(file, sizeBytes, () => undefined);
      const content = await readFile(await make());
      expect(content).toHaveLength(sizeBytes);
      for (const [offset, length] of [
        [0, 64],
        [1, 33],
        [8 * 2 ** 20 - 7, 20],
        [sizeBytes - 3, 3],
      ]) {
        const expected = content.subarray(offset, offset + length);
        expect(randomFileBytes(offset, length).equals(expected)).toBe(true);
      }
      await truncate(file, 100);
      expect((await readFile(await make())).equals(content)).toBe(true);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("stops when asked to and leaves nothing behind", async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-random-"));
    try {
      const file = path.join(folder, "file.bin");
      const reason = new Error("stop");
      const stopped = AbortSignal.abort(reason);
      const making = ensureRandomFile(file, 2 ** 20, () => undefined, stopped);
      await expect(making).rejects.toBe(reason);
      await expect(readFile(file)).rejects.toMatchObject({ code: "ENOENT" });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
