import type { FlashReader, LandingBuffer, PlanLayout } from "@neuron-chunking/flash-reader";
import {
  LatencyTable,
  selectedRows,
  simulatedDevice,
  type ChunkPlan,
} from "@neuron-chunking/latency-model";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { drawHotCold, IMPORTANCE_VARIATIONS } from "../src/bench/importance-cases";
import {
  ARRANGEMENTS,
  createContenders,
  createPlanners,
  equalTasks,
  IO_POLICIES,
} from "../src/bench/io/contenders";
import { sparkline } from "../src/bench/io/describe";
import { IO_EFFORTS } from "../src/bench/io/effort";
import { leastTopkRows, planImportance, requireImportance } from "../src/bench/io/equal-importance";
import { MatrixSection, type IoContext } from "../src/bench/io/matrix-section";
import { Pace, roughReadNs } from "../src/bench/io/pace";
import { casesOf, distributionOf } from "../src/bench/io/report";
import { MATRIX_SHAPES } from "../src/bench/io/shapes";
import { planRanges } from "../src/bench/plan-ranges";
import { uniformGenerator } from "../src/random";
import { randomFileBytes } from "../src/random-file";

const table = new LatencyTable(simulatedDevice("orin-nano"));

describe("the shapes", () => {
  const shapeOf = (model: string, bundle: string): number[] => {
    const found = MATRIX_SHAPES.filter((one) => one.model === model && one.bundle === bundle);
    expect(found).toHaveLength(1);
    return [found[0].rows, found[0].rowBytes];
  };

  it.each([
    ["LLaVA-OneVision 7B", "q", 3584, 7168],
    ["LLaVA-OneVision 7B", "k", 3584, 1024],
    ["LLaVA-OneVision 7B", "gate", 3584, 37888],
    ["LLaVA-OneVision 7B", "down", 18944, 7168],
    ["LLaVA-OneVision 7B", "attn_in", 3584, 9216],
    ["LLaVA-OneVision 7B", "mlp_in", 3584, 75776],
    ["LLaVA-OneVision 7B", "mlp_out", 18944, 7168],
    ["LLaVA-OneVision 0.5B", "v", 896, 256],
    ["LLaVA-OneVision 0.5B", "up", 896, 9728],
    ["LLaVA-OneVision 0.5B", "down", 4864, 1792],
    ["LLaVA-OneVision 0.5B", "attn_in", 896, 2304],
    ["LLaVA-OneVision 0.5B", "mlp_in", 896, 19456],
    ["VILA 8B", "k", 4096, 2048],
    ["VILA 8B", "attn_in", 4096, 12288],
    ["VILA 8B", "attn_out", 4096, 8192],
    ["VILA 8B", "mlp_in", 4096, 57344],
    ["VILA 8B", "down", 14336, 8192],
    ["NVILA 2B", "k", 1536, 512],
    ["NVILA 2B", "attn_in", 1536, 4096],
    ["NVILA 2B", "mlp_in", 1536, 35840],
    ["NVILA 2B", "mlp_out", 8960, 3072],
  ])("%s %s: %i rows of %i bytes", (model, bundle, rows, rowBytes) => {
    expect(shapeOf(model, bundle)).toEqual([rows, rowBytes]);
  });

  it("hold the same weights bundled and not", () => {
    for (const model of new Set(MATRIX_SHAPES.map((one) => one.model))) {
      const bytes = (bundled: boolean): number =>
        MATRIX_SHAPES.filter((one) => one.model === model && one.bundled === bundled).reduce(
          (sum, { rows, rowBytes }) => sum + rows * rowBytes,
          0,
        );
      expect(bytes(true)).toBe(bytes(false));
    }
  });
});

describe("equal importance", () => {
  const settings = fc.record({
    rows: fc.integer({ min: 8, max: 700 }),
    rowBytes: fc.constantFrom(256, 1792, 7168, 37888),
    keep: fc.double({ min: 0.05, max: 0.95, noNaN: true }),
    variation: fc.constantFrom(...IMPORTANCE_VARIATIONS),
    seed: fc.nat(),
  });

  it("is reached by every policy in every order, and by top-k with the fewest rows", () => {
    const contenders = createContenders(700);
    const planners = createPlanners(700);
    const property = fc.property(settings, ({ rows, rowBytes, keep, variation, seed }) => {
      const { original, reordered } = drawHotCold({ rows, variation, seed });
      const budgetRows = Math.max(1, Math.round(keep * rows));
      // Right, near and useless guesses alike.
      const lastPrices = seed % 2 === 0 ? {} : { original: 10 ** ((seed % 25) - 18) };
      const query = {
        rows,
        rowBytes,
        budgetRows,
        tables: { chunk: table, lagrange: table },
        lastPrices,
      };
      const tasks = equalTasks({ original, hotCold: reordered }, query, planners);
      expect(tasks.hotColdAtOriginal.target).toBe(tasks.original.target);
      expect(tasks.hotColdAtOriginal.importance).toBe(tasks.hotCold.importance);
      for (const arrangement of ARRANGEMENTS) {
        const { importance, target, requests } = tasks[arrangement];
        for (const contender of contenders.values()) {
          if (contender.arrangement !== arrangement) continue;
          const { way, selector } = contender;
          const plan = selector.select(requests[way]);
          expect(planImportance(plan, importance)).toBeGreaterThanOrEqual(target * (1 - 1e-6));
          if (way === "chunk" && arrangement !== "hotColdAtOriginal") {
            expect(selectedRows(plan)).toBeLessThanOrEqual(budgetRows);
          }
        }
        const fewer = Number(requests.topk.budgetRows) - 1;
        const most = [...importance].sort((a, b) => b - a).slice(0, fewer);
        const sum = most.reduce((total, value) => total + value, 0);
        expect(sum).toBeLessThan(target);
      }
    });
    fc.assert(property, { numRuns: 60 });
  });

  it("needs no row for nothing and all rows for everything", () => {
    const importance = Float32Array.of(1, 4, 2);
    expect(leastTopkRows(importance, 0)).toBe(0);
    expect(leastTopkRows(importance, 4)).toBe(1);
    expect(leastTopkRows(importance, 4.5)).toBe(2);
    expect(leastTopkRows(importance, 7)).toBe(3);
    expect([...importance]).toEqual([1, 4, 2]);
  });

  it("is insisted on", () => {
    expect(() => requireImportance("topk", 0.9999999, 1)).not.toThrow();
    expect(() => requireImportance("topk", 0.999, 1)).toThrow(/topk policy kept.*bug/);
  });
});

describe("the pace", () => {
  const BUDGET_MS = 44_000;
  const roughNs = MATRIX_SHAPES.map((shape) =>
    roughReadNs(shape, table, { scattered: 5, inRuns: 6 }),
  );
  roughNs.sort((a, b) => a - b);

  /** On a disk that is so many times as slow as its profile says, by a clock that only reads move. */
  function run(slowness: number): { shares: number[]; endMs: number } {
    let clockMs = 0;
    const pace = new Pace(roughNs, () => BUDGET_MS - clockMs);
    const shares = roughNs.map((ns) => {
      const share = pace.share();
      clockMs += (slowness * ns * share) / 1e6;
      pace.done(ns, share, slowness * ns * share);
      return share;
    });
    return { shares, endMs: clockMs };
  }

  it("leaves a fast disk all rows and makes a slow one fit the time", () => {
    const fullMs = roughNs.reduce((sum, ns) => sum + ns, 0) / 1e6;
    expect(run((0.5 * BUDGET_MS) / fullMs).shares).toEqual(roughNs.map(() => 1));
    for (const times of [1.5, 5, 20, 100]) {
      const { shares, endMs } = run((times * BUDGET_MS) / fullMs);
      expect(shares[0]).toBeGreaterThan(0);
      expect(shares.at(-1)).toBeGreaterThan(0);
      expect(shares.at(-1)).toBeLessThan(1);
      expect(endMs).toBeLessThan(BUDGET_MS);
      // Not by giving up most of the time there is.
      expect(endMs).toBeGreaterThan(0.5 * BUDGET_MS);
    }
  });

  it("never asks for less than nothing when time is up", () => {
    expect(new Pace([1, 1], () => -5).share()).toBe(0);
  });
});

interface Read {
  readonly plan: ChunkPlan;
  readonly layout: PlanLayout;
  readonly readThrough: boolean | undefined;
}

const FILE_BYTES = 8 * 2 ** 20;

/** A reader that notes what is asked of it and brings the right bytes. */
function fakeReader(reads: Read[]): FlashReader {
  const readPlan: FlashReader["readPlan"] = (plan, layout, options) => {
    reads.push({ plan, layout, readThrough: options?.readThrough });
    const ranges = planRanges(plan, layout.rowBytes, layout.baseOffsetBytes);
    const view = (index: number): Buffer =>
      randomFileBytes(ranges[index].offsetBytes, ranges[index].lengthBytes);
    const result = { view, requests: plan.chunkCount, bytesRead: 1 };
    return Promise.resolve(result) as unknown as ReturnType<FlashReader["readPlan"]>;
  };
  return { readPlan, sizeBytes: FILE_BYTES } as unknown as FlashReader;
}

describe("one matrix", () => {
  const shape = { model: "m", bundle: "b", bundled: false, rows: 500, rowBytes: 1792 };
  const sectionOf = (reads: Read[], remainingMs = 1e9) => {
    const context: IoContext = {
      effort: { ...IO_EFFORTS.default, maxInputs: 2, roundMs: Infinity },
      reader: fakeReader(reads),
      landing: {} as LandingBuffer,
      contenders: createContenders(shape.rows),
      planners: createPlanners(shape.rows),
      tables: { chunk: table, lagrange: table },
      pace: new Pace([1e6], () => remainingMs),
      uniform: uniformGenerator(3),
      signal: new AbortController().signal,
    };
    const setting = { shape, keep: 0.5, variation: 1.3, seed: 0, roughNs: 1e6 };
    return new MatrixSection(context, setting);
  };

  it("is read by all contenders in turn, forwards and backwards, at new places and for new inputs", async () => {
    const reads: Read[] = [];
    const section = sectionOf(reads);
    await section.runRound(0);
    expect(reads).toHaveLength(28);
    // Input 0 forwards, input 1 backwards.
    const plainAt = reads.flatMap(({ readThrough }, i) => (readThrough === false ? [i] : []));
    expect(plainAt).toHaveLength(4);
    expect(plainAt.slice(2)).toEqual([27 - plainAt[1], 27 - plainAt[0]]);
    const places = reads.map(({ layout }) => layout.baseOffsetBytes);
    expect(new Set(places).size).toBeGreaterThan(24);
    for (const place of places) {
      expect(place % 4096).toBe(0);
      expect(place + shape.rows * shape.rowBytes).toBeLessThanOrEqual(FILE_BYTES);
    }
    expect(section.verifiedRanges).toBeGreaterThanOrEqual(14);
    await section.runRound(1);
    expect(casesOf(section).every(({ rounds }) => rounds === 2)).toBe(true);
    expect(section.rows).toBe(shape.rows);
  });

  it("gives times that are sums of selection and reading, relative to top-k in the same order", async () => {
    const section = sectionOf([]);
    await section.runRound(0);
    for (const reordered of [false, true]) {
      const cases = casesOf(section).filter((one) => one.reordered === reordered);
      const [topk, chunk] = cases.map(({ selectNs, readNs }) => selectNs + readNs);
      expect(cases.map(({ policy }) => policy)).toEqual([...IO_POLICIES]);
      expect(cases[0].ratioToTopk).toBe(1);
      expect(cases[1].ratioToTopk).toBeCloseTo(topk / chunk, 9);
    }
  });

  it("keeps only its first rows when time is short, and is never dropped", async () => {
    const section = sectionOf([], 0);
    await section.runRound(0);
    expect(section.rows).toBe(16);
    expect(casesOf(section)).toHaveLength(6);
    expect(casesOf(section)[0]).toMatchObject({ rows: 16, modelRows: 500 });
  });
});

describe("the distribution", () => {
  it("has the mean, the extremes, the quantiles and the losses", () => {
    const distribution = distributionOf([2, 1, 0.5, 4, 3]);
    expect(distribution).toMatchObject({ mean: 2.1, best: 4, worst: 0.5, median: 2 });
    expect(distribution).toMatchObject({ cases: 5, losses: 1 });
    expect(distribution.quantiles.p25).toBe(1);
  });

  it("is drawn from the worst to the best, the tallest bar where most are", () => {
    const drawn = sparkline([1, 1, 1, 1, 2, 4]);
    expect([...drawn]).toHaveLength(24);
    expect(drawn.startsWith("█")).toBe(true);
    expect(drawn.endsWith("▂")).toBe(true);
    expect(drawn.trim().replace(/ /g, "")).toHaveLength(3);
    expect(sparkline([1, 1]).trim()).toBe("█");
  });
});
