import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nchunk } from "./support/cli";

const POLICIES = ["topk", "chunk", "lagrange"] as const;

interface Case {
  model: string;
  bundle: string;
  bundled: boolean;
  rows: number;
  modelRows: number;
  rowBytes: number;
  keep: number;
  variation: number;
  policy: (typeof POLICIES)[number];
  reordered: boolean;
  importance: number;
  selectNs: number;
  readNs: number;
  ratioToTopk: number;
  ratioToPlainTopk: number;
  ratioToOriginalOrder: number | null;
  ratioToPlainTopkInOriginalOrder: number | null;
  atPrice: {
    importance: number;
    selectNs: number;
    readNs: number;
    ratioToTopk: number;
    ratioToPlainTopk: number;
    ratioToPlainTopkInOriginalOrder: number | null;
  } | null;
  rowsRead: number;
  chunks: number;
  requests: number;
  bytesRead: number;
  rounds: number;
  ratioSpread: number | null;
}

interface Distribution {
  mean: number;
  best: number;
  worst: number;
  median: number;
  quantiles: Record<string, number>;
  cases: number;
  losses: number;
}

type ByPolicy = Record<(typeof POLICIES)[number], Distribution>;

interface Report {
  cases: Case[];
  summary: {
    chunk: Distribution;
    lagrange: Distribution;
    plain: ByPolicy;
    atPrice: Record<"overTopk" | "overPlainTopk" | "together", Distribution>;
    reordering: ByPolicy;
    together: Omit<ByPolicy, "topk">;
    lagrangeOverChunk: Distribution;
    byModel: { model: string; chunk: Distribution; lagrange: Distribution }[];
  };
  profile: { name: string };
  rounds: { least: number; most: number };
  noise: { ratioSpread: number | null };
  loadPerCore: number;
  verifiedRanges: number;
  notes: string[];
}

const MODELS = ["LLaVA-OneVision 7B", "LLaVA-OneVision 0.5B", "VILA 8B", "NVILA 2B"];
const PROJECTIONS = ["q", "k", "v", "o", "gate", "up", "down"];
const BUNDLES = ["attn_in", "attn_out", "mlp_in", "mlp_out"];

let folder: string;
let report: Report;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-bench-io-"));
  const args = ["bench", "io", "--tiny", "--json", "--dir", folder];
  const { status, stdout, stderr } = await nchunk(args);
  if (status !== 0) throw new Error(`bench io ended with ${status}: ${stderr}`);
  report = JSON.parse(stdout) as Report;
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const keyOf = ({ model, bundle, bundled, reordered }: Case): string =>
  [model, bundled ? "bundled" : "not", bundle, reordered ? "reordered" : "original"].join(" / ");

function byMatrix(): Map<string, Case[]> {
  const groups = new Map<string, Case[]>();
  for (const one of report.cases) groups.set(keyOf(one), [...(groups.get(keyOf(one)) ?? []), one]);
  return groups;
}

function expectDistribution(got: Distribution, ratios: (number | null)[]): void {
  const values = ratios.filter((ratio) => ratio !== null);
  expect(got.cases).toBe(values.length);
  expect(got.mean).toBeCloseTo(values.reduce((sum, ratio) => sum + ratio, 0) / values.length, 9);
  expect(got.best).toBe(Math.max(...values));
  expect(got.worst).toBe(Math.min(...values));
  expect(got.losses).toBe(values.filter((ratio) => ratio < 1).length);
  const { p10, p25, p75, p90 } = got.quantiles;
  const ascending = [got.worst, p10, p25, got.median, p75, p90, got.best];
  expect(ascending).toEqual([...ascending].sort((a, b) => a - b));
}

describe("bench io --json", () => {
  it("has every projection and bundle of every model, in both orders, under every policy", () => {
    const expected = MODELS.flatMap((model) =>
      [...PROJECTIONS, ...BUNDLES].flatMap((bundle) =>
        ["original", "reordered"].map((order) =>
          [model, BUNDLES.includes(bundle) ? "bundled" : "not", bundle, order].join(" / "),
        ),
      ),
    );
    const groups = byMatrix();
    expect([...groups.keys()].sort()).toEqual(expected.sort());
    for (const group of groups.values()) {
      expect(group.map(({ policy }) => policy)).toEqual([...POLICIES]);
    }
  });

  it("gives numbers for everything that the contract names", () => {
    for (const one of report.cases) {
      const { importance, rows, rowBytes, rowsRead, chunks, requests, bytesRead } = one;
      for (const value of [one.selectNs, one.readNs, one.ratioToTopk, one.ratioToPlainTopk]) {
        expect(Number.isFinite(value)).toBe(true);
        expect(value).toBeGreaterThan(0);
      }
      expect(importance).toBeGreaterThan(0);
      expect(importance).toBeLessThanOrEqual(1);
      expect([one.keep, one.variation, one.rounds]).toEqual([0.5, 1.3, 1]);
      expect(one.ratioSpread).toBeNull();
      expect(rows).toBeLessThanOrEqual(one.modelRows);
      expect(rowsRead).toBeLessThanOrEqual(rows);
      expect(chunks).toBeLessThanOrEqual(rowsRead);
      // Two chunks in one block are fetched at once; one is split only where it is long.
      expect(requests).toBeGreaterThan(0);
      expect(bytesRead).toBeGreaterThanOrEqual(0.5 * rowsRead * rowBytes);
      for (const ratio of [one.ratioToOriginalOrder, one.ratioToPlainTopkInOriginalOrder]) {
        if (one.reordered) expect(ratio).toBeGreaterThan(0);
        else expect(ratio).toBeNull();
      }
      if (one.policy === "topk") expect(one.ratioToTopk).toBe(1);
    }
  });

  it("compares at equal importance, which Algorithm 1 with its share of the rows sets", () => {
    for (const [key, [topk, chunk, lagrange]] of byMatrix()) {
      expect(chunk.rowsRead, key).toBeLessThanOrEqual(Math.round(chunk.keep * chunk.rows));
      // The least important row that top-k takes may overshoot; no plan may fall short.
      for (const other of [topk, lagrange]) {
        expect(other.importance, key).toBeGreaterThanOrEqual(chunk.importance * (1 - 1e-6));
      }
      expect(topk.rowsRead, key).toBeLessThanOrEqual(chunk.rowsRead);
      const atPrice = lagrange.atPrice?.importance;
      expect(atPrice, key).toBeGreaterThanOrEqual(chunk.importance * (1 - 1e-6));
      expect([topk.atPrice, chunk.atPrice]).toEqual([null, null]);
    }
  });

  it("summarises what it lists, and keeps the two baselines apart", () => {
    const { summary, cases } = report;
    const of = (policy: string): Case[] => cases.filter((one) => one.policy === policy);
    for (const policy of ["chunk", "lagrange"] as const) {
      const own = of(policy);
      expectDistribution(
        summary[policy],
        own.map(({ ratioToTopk }) => ratioToTopk),
      );
      expectDistribution(
        summary.together[policy],
        own.map((one) => one.ratioToPlainTopkInOriginalOrder),
      );
      for (const { model, ...distributions } of summary.byModel) {
        const ratios = own.filter((one) => one.model === model).map((one) => one.ratioToTopk);
        expectDistribution(distributions[policy], ratios);
      }
    }
    for (const policy of POLICIES) {
      expectDistribution(
        summary.plain[policy],
        of(policy).map(({ ratioToPlainTopk }) => ratioToPlainTopk),
      );
      expectDistribution(
        summary.reordering[policy],
        of(policy).map(({ ratioToOriginalOrder }) => ratioToOriginalOrder),
      );
    }
    const atPrice = of("lagrange").map((one) => one.atPrice);
    expectDistribution(
      summary.atPrice.overTopk,
      atPrice.map((one) => one && one.ratioToTopk),
    );
    expectDistribution(
      summary.atPrice.overPlainTopk,
      atPrice.map((one) => one && one.ratioToPlainTopk),
    );
    expectDistribution(
      summary.atPrice.together,
      atPrice.map((one) => one && one.ratioToPlainTopkInOriginalOrder),
    );
    expect(summary.atPrice.together.cases).toBe(44);
    expect(summary.byModel.map(({ model }) => model)).toEqual(MODELS);
    expect(summary.lagrangeOverChunk.cases).toBe(88);
  });

  it("checks bytes of every policy, and says that a test is no measurement", () => {
    // 44 matrices, 14 plans of each, at least a range of each.
    expect(report.verifiedRanges).toBeGreaterThanOrEqual(44 * 14);
    expect(report.rounds).toEqual({ least: 1, most: 1 });
    expect(report.noise.ratioSpread).toBeNull();
    const cut = report.cases.filter(({ rows, modelRows }) => rows < modelRows);
    expect(cut.length).toBeGreaterThan(0);
    for (const { rows, rowBytes } of cut) expect(rows * rowBytes).toBeLessThanOrEqual(2 * 2 ** 20);
    const notes = report.notes.join();
    expect(notes).toMatch(/no time for all rows/);
    expect(notes.includes("busy with other work")).toBe(report.loadPerCore >= 0.5);
  });
});

describe("bench io", () => {
  it("prints a table for each model, both baselines, and the paper's figures as the paper's", async () => {
    const { status, stdout } = await nchunk(["bench", "io", "--tiny", "--dir", folder]);
    expect(status).toBe(0);
    for (const words of [...MODELS, ...PROJECTIONS, ...BUNDLES]) expect(stdout).toContain(words);
    expect(stdout).toMatch(/over plain top-k: chunk/);
    expect(stdout).toMatch(/over top-k with gaps read through: chunk/);
    expect(stdout).toMatch(/The paper reports 2\.19x .* 4\.65x/);
    expect(stdout).toMatch(/[▁▂▃▄▅▆▇█]/);
    // The file that is read stays, and nothing else.
    expect(await readdir(path.join(folder, "nchunk-bench"))).toEqual(["random-32MiB.bin"]);
  });

  it("ends cleanly on Ctrl-C, without a result", async () => {
    const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
    const own = await mkdtemp(path.join(folder, "interrupted-"));
    const args = [cli, "bench", "io", "--tiny", "--json", "--dir", own];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    // Measuring begins as soon as there is a file to read.
    const files = path.join(own, "nchunk-bench");
    const hasFile = async (): Promise<boolean> =>
      (await readdir(files).catch((): string[] => [])).includes("random-32MiB.bin");
    while (child.exitCode === null && !(await hasFile())) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(stdout).toBe("");
    expect(await readdir(files)).toEqual(["random-32MiB.bin"]);
  });

  it.each([
    ["a folder that is none", ["--json", "--dir", "/nowhere"], /INVALID_ARGUMENT.*not a folder/],
    ["a file for a folder", ["--json", "--dir", fileURLToPath(import.meta.url)], /not a folder/],
    ["an unknown option", ["--keep", "2"], /unknown option '--keep'/],
    ["an option without its value", ["--dir"], /argument missing/],
  ])("refuses %s", async (_, flags, message) => {
    const { status, stdout, stderr } = await nchunk(["bench", "io", ...flags]);
    expect(status).toBe(1);
    expect(stdout + stderr).toMatch(message);
  });
});
