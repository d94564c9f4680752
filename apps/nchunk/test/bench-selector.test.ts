import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { LatencyTable, planFromRows, simulatedDevice } from "@neuron-chunking/latency-model";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { benchSelector, type SelectorReport } from "../src/bench/selector/bench-selector";
import { contiguityBars } from "../src/bench/selector/charts";
import { Comparison, withExact } from "../src/bench/selector/compare";
import { PAPER_SHAPES, SELECTOR_EFFORTS } from "../src/bench/selector/effort";
import { gridInputs } from "../src/bench/selector/inputs";
import { maskPath } from "../src/bench/selector/masks";
import { nchunk } from "./support/cli";

const MOST_PAGE_BYTES = 2 ** 20;
const DEVICES = ["orin-agx", "orin-nano", "nvme-gen4"];
const DEGENERATE = ["equal", "spike", "zero", "sorted", "alternating", "priced"];

let folder: string;
let report: SelectorReport;
let page: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-bench-selector-"));
  const html = path.join(folder, "report.html");
  const args = ["bench", "selector", "--tiny", "--json", "--dir", folder, "--html", html];
  const { status, stdout, stderr } = await nchunk(args);
  if (status !== 0) throw new Error(`bench selector ended with ${status}: ${stdout} ${stderr}`);
  report = JSON.parse(stdout) as SelectorReport;
  page = await readFile(html, "utf8");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

describe("bench selector --json", () => {
  it("has every shape, device, order and degenerate input", () => {
    const names = report.cases.map(
      ({ rows, cols, device, order }) => `${rows}x${cols} ${device} ${order}`,
    );
    const orders = ["random", "clustered", "hot-cold", ...DEGENERATE];
    const wanted = PAPER_SHAPES.flatMap(({ rows, cols }) =>
      DEVICES.flatMap((device) => orders.map((order) => `${rows}x${cols} ${device} ${order}`)),
    );
    expect(names.sort()).toEqual(wanted.sort());
    expect(report.devices).toEqual(DEVICES);
    expect(report.keeps).toEqual([0.5]);
  });

  it("has ratios that follow from the latencies", () => {
    for (const one of report.cases) {
      const { chunk, topk, lagrange, exact, order } = one;
      if (order === "zero") continue;
      expect(chunk.rows).toBeLessThanOrEqual(Math.round(one.keep * one.rows));
      expect(one.lagrangeToChunk).toBe(lagrange.latencyNs / chunk.latencyNs);
      const best = Math.min(chunk.latencyNs, topk.latencyNs);
      expect(one.lagrangeToBest).toBe(lagrange.latencyNs / best);
      expect(one.lagrangeToExact).toBe(
        exact?.isProven ? lagrange.latencyNs / exact.latencyNs : null,
      );
      // An optimum is under whatever the policies found, and so is a bound of it.
      if (exact) expect(exact.lowerBoundNs).toBeLessThanOrEqual(best * (1 + 1e-9));
      if (exact?.isProven) expect(exact.latencyNs).toBeLessThanOrEqual(best * (1 + 1e-9));
      // What the selector says of how good it is must be true. It knows no bound of narrow rows.
      if (one.lagrangeToBound === null) continue;
      expect(one.lagrangeToBound).toBeGreaterThanOrEqual(1 - 1e-9);
      if (exact?.isProven) {
        const boundNs = lagrange.latencyNs / one.lagrangeToBound;
        expect(boundNs).toBeLessThanOrEqual(exact.latencyNs * (1 + 1e-6));
      }
    }
  });

  it("has the summary that was asked for, from these cases", () => {
    const { summary, cases } = report;
    const grid = cases.filter(({ kind }) => kind === "grid");
    const expected = mean(grid.map(({ lagrangeToChunk }) => lagrangeToChunk));
    expect(summary.lagrangeToChunkMean).toBeCloseTo(expected, 12);
    const toBest = cases.map(({ lagrangeToBest }) => lagrangeToBest);
    expect(summary.lagrangeToBestMax).toBe(Math.max(...toBest));
    const proven = cases.flatMap(({ lagrangeToExact }) => lagrangeToExact ?? []);
    expect(proven.length).toBeGreaterThan(0);
    expect(summary.lagrangeToExactMax).toBe(Math.max(...proven));
    expect(summary.exact.proven).toBe(proven.length);
    expect(Object.keys(summary.selectNs)).toEqual(
      PAPER_SHAPES.map(({ rows, rowBytes }) => `${rows}x${rowBytes}`),
    );
    expect(Object.keys(summary.selectNs)).toEqual(
      expect.arrayContaining(["18944x7168", "14336x8192", "896x9728"]),
    );
    for (const times of Object.values(summary.selectNs)) {
      for (const time of Object.values(times)) expect(time).toBeGreaterThan(0);
    }
  });

  it("is never worse than the better of top-k and Algorithm 1, nor faster than the optimum", () => {
    for (const { lagrangeToBest, lagrangeToExact } of report.cases) {
      expect(lagrangeToBest).toBeLessThanOrEqual(1 + 1e-9);
      if (lagrangeToExact !== null) expect(lagrangeToExact).toBeGreaterThanOrEqual(1 - 1e-9);
    }
  });
});

describe("one comparison", () => {
  const shape = { rows: 12, cols: 4096, rowBytes: 8192 };
  const table = new LatencyTable(simulatedDevice("orin-nano"));

  it("gives every policy the importance of Algorithm 1's plan, and finds the optimum", () => {
    const comparison = new Comparison(shape);
    for (const input of gridInputs(shape, [1.1, 1.3, 3.3])) {
      const { importance } = input;
      const one = withExact(comparison.compare(input, table, 0.5), importance, table, 1e6);
      const total = mean(Array.from(importance)) * shape.rows;
      const target = one.importance * total * (1 - 1e-9);
      let leastNs = Infinity;
      let leastRows = Infinity;
      for (let subset = 0; subset < 1 << shape.rows; subset += 1) {
        const rows = Array.from(importance.keys()).filter((row) => (subset >> row) & 1);
        if (rows.reduce((sum, row) => sum + importance[row], 0) < target) continue;
        const { lengths } = planFromRows(rows);
        const latencyNs = Array.from(lengths, (length) => table.latencyNs(length * shape.rowBytes));
        leastNs = Math.min(
          leastNs,
          latencyNs.reduce((sum, ns) => sum + ns, 0),
        );
        leastRows = Math.min(leastRows, rows.length);
      }
      expect(one.exact?.isProven).toBe(true);
      expect(one.exact?.latencyNs).toBeCloseTo(leastNs, 3);
      expect(one.topk.rows).toBe(leastRows);
      expect(one.lagrangeToExact).toBeCloseTo(one.lagrange.latencyNs / leastNs, 9);
    }
  });
});

describe("the time of a run", () => {
  const effort = {
    ...SELECTOR_EFFORTS.tiny,
    shapes: PAPER_SHAPES.slice(-1),
    exact: { ...SELECTOR_EFFORTS.tiny.exact, maxRows: 0, minCases: 0 },
  };
  const run = (keeps: number[], budgetMs: number, signal = new AbortController().signal) =>
    benchSelector({
      effort: { ...effort, keeps, budgetMs },
      profile: undefined,
      startedMs: performance.now(),
      signal,
    });

  it("shares of rows that there is no time for are left out and named", async () => {
    const short = await run([0.5, 0.1], 0);
    expect([short.keeps, short.keepsLeftOut]).toEqual([[0.5], [0.1]]);
    const long = await run([0.5, 0.1], Infinity);
    expect([long.keeps, long.keepsLeftOut]).toEqual([[0.5, 0.1], []]);
    expect(long.cases.filter(({ keep }) => keep === 0.5)).toEqual(short.cases);
    expect(long.summary.exact).toEqual({ tried: 0, proven: 0, lagrangeToExactMean: null });
    expect(long.summary.lagrangeToExactMax).toBeNull();
  });

  it("ends when it is interrupted", async () => {
    await expect(run([0.5], Infinity, AbortSignal.abort())).rejects.toThrow(/abort/i);
  });
});

describe("bench selector --html", () => {
  it("draws masks, contiguity, curves and ratios, each with words for those who do not see them", () => {
    for (const id of ["masks", "contiguity", "curves", "ratios"]) {
      expect(page).toMatch(new RegExp(`<section class="chart" id="${id}">.*<svg`));
    }
    expect(page.match(/<svg/g)).toHaveLength(4);
    expect(page.match(/<svg[^>]*aria-label="[^"]{40,}"/g)).toHaveLength(4);
    expect(page).not.toMatch(/NaN|Infinity|undefined|\[object/);
  });

  it("asks nothing of a network, runs no script and stays small", () => {
    expect(page.replace(/ xmlns(:\w+)?="[^"]*"/g, "")).not.toMatch(/https?:|\bsrc=|@import|url\(/);
    expect(page).not.toContain("<script");
    expect(Buffer.byteLength(page)).toBeLessThan(MOST_PAGE_BYTES);
  });

  it("a mask has one stroke for each run and line", () => {
    const plan = planFromRows([0, 1, 5, 254, 255, 256, 257]);
    expect(maskPath(plan)).toBe("M0 4h2M5 4h1M254 4h2M0 12h2");
  });

  it("contiguity: every chunk is in the bin of its size", () => {
    const bars = contiguityBars({
      sizes: Uint32Array.of(1, 9, 10, 100),
      counts: Uint32Array.of(4, 2, 1, 1),
      meanRows: 0,
      modeRows: 1,
      chunkCount: 8,
      rows: 0,
    });
    expect(bars).toEqual([
      { from: 1, to: 2, share: 0.5 },
      { from: 8, to: 12, share: 0.375 },
      { from: 91, to: 128, share: 0.125 },
    ]);
  });
});

describe("what is typed", () => {
  it("without --json, tables for people", async () => {
    const { status, stdout } = await nchunk(["bench", "selector", "--tiny", "--dir", folder]);
    expect(status).toBe(0);
    for (const words of ["over Algorithm 1, mean", "18944 rows x 7168 B", "Seed", "Worst"]) {
      expect(stdout).toContain(words);
    }
  });

  it("a page that cannot be written is an error before anything is compared", async () => {
    for (const html of [folder, path.join(folder, "none", "page.html")]) {
      const args = ["bench", "selector", "--json", "--html", html];
      const { status, stdout, stderr } = await nchunk(args);
      expect(status).toBe(1);
      const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
      expect(error.code).toBe("INVALID_ARGUMENT");
      expect(error.message).toContain(html);
      expect(stderr).not.toContain("Comparing");
    }
    expect((await readdir(folder)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  it("a folder that is none, and an option that is none", async () => {
    const noFolder = await nchunk(["bench", "selector", "--json", "--dir", "/nowhere"]);
    expect(noFolder.status).toBe(1);
    expect(noFolder.stdout).toMatch(/not a folder/);
    const noOption = await nchunk(["bench", "selector", "--seed", "7"]);
    expect(noOption.status).toBe(1);
    expect(noOption.stderr).toMatch(/unknown option '--seed'/);
  });
});
