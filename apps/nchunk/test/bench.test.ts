import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nchunk } from "./support/cli";

interface Compared {
  readerNs: number;
  fioNs: number | null;
  ratioToFio: number | null;
  rounds: unknown[];
}

interface ReaderReport {
  cases: (Compared &
    (
      | { kind: "random"; sizeBytes: number; backend: string; backends: Record<string, Compared> }
      | {
          kind: "mixed";
          rowBytes: number;
          keep: number;
          policy: string;
          backend: string;
          requests: number;
          bytesWanted: number;
          bytesRead: number;
          fioBytesRead: number | null;
          matrices: number;
          chunks: number;
        }
    ))[];
  reader: { backend: string; tier: string; alignmentBytes: number };
  fioVersion: string | null;
  baselines: { sizeBytes: number; fsPromisesNs: number; fsReadNs: number }[];
  eventLoopDelayP99Ns: number;
  eventLoop: { batches: number; events: number };
  allocation: Record<string, number>;
  verifiedRanges: number;
  summary: { medianRatio: number | null; minRatio: number | null; mixedMinRatio: number | null };
  notes: string[];
}

interface Quality {
  r2: number;
  mape: number;
}

interface ModelReport {
  masks: number;
  fitted: number;
  heldOut: number;
  rounds: number;
  noise: number;
  models: Record<"sum" | "sumUncalibrated" | "batch", Quality>;
  byRowBytes: { rowBytes: number; heldOut: number; sum: Quality; batch: Quality }[];
  byKind: { kind: string; heldOut: number }[];
  verifiedRanges: number;
}

/** The benches choose their own disk here, so that what they leave can be looked at. */
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-bench-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function benchJson(name: string, env: Record<string, string> = {}): Promise<unknown> {
  const args = ["bench", name, "--tiny", "--json", "--dir", folder];
  const { status, stdout, stderr } = await nchunk(args, env);
  if (status !== 0) throw new Error(`bench ${name} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

const expectPositive = (value: unknown): void => {
  expect(Number.isFinite(value)).toBe(true);
  expect(value).toBeGreaterThan(0);
};

function expectReaderReport(report: ReaderReport): void {
  const random = report.cases.filter((one) => one.kind === "random");
  const mixed = report.cases.filter((one) => one.kind === "mixed");
  expect(random.map(({ sizeBytes }) => sizeBytes)).toEqual([4096, 65536]);
  expect(mixed.map(({ rowBytes, policy }) => `${policy} ${rowBytes}`)).toEqual([
    "topk 896",
    "chunk 896",
    "topk 7168",
    "chunk 7168",
  ]);
  for (const one of report.cases) {
    expect(one.backend).toBe(report.reader.backend);
    expect(one.rounds).toHaveLength(1);
    expectPositive(one.readerNs);
  }
  for (const one of mixed) {
    // 896-byte rows are no multiple of a block: more is read than wanted, by less than two blocks a range.
    const slackBytes = 2 * one.chunks * (report.reader.alignmentBytes - 1);
    expect(one.bytesRead).toBeGreaterThanOrEqual(one.bytesWanted);
    expect(one.bytesRead).toBeLessThanOrEqual(one.bytesWanted + slackBytes);
    const rows = Math.floor((2 * 2 ** 20) / one.rowBytes);
    const budgetBytes = one.matrices * Math.round(one.keep * rows) * one.rowBytes;
    if (one.policy === "topk") expect(one.bytesWanted).toBe(budgetBytes);
    else expect(one.bytesWanted).toBeLessThanOrEqual(budgetBytes);
    expectPositive(one.requests);
  }
  for (const { fsPromisesNs, fsReadNs } of report.baselines) {
    expectPositive(fsPromisesNs);
    expectPositive(fsReadNs);
  }
  expectPositive(report.eventLoopDelayP99Ns);
  expectPositive(report.eventLoop.events);
  for (const field of ["heapGrowthBytes", "rssGrowthBytes", "externalGrowthBytes"]) {
    expect(Number.isFinite(report.allocation[field])).toBe(true);
  }
  // Every one of these was compared with the file's content; a wrong byte ends the bench.
  expect(report.verifiedRanges).toBeGreaterThan(30);
}

describe("bench reader", () => {
  it("R1: compares every size and mask with fio where there is one, on the same file", async () => {
    const report = (await benchJson("reader")) as ReaderReport;
    expectReaderReport(report);
    if (report.fioVersion === null) {
      expect(report.notes.join()).toMatch(/apt-get install/);
      return;
    }
    for (const { fioNs, ratioToFio } of report.cases) {
      expectPositive(fioNs);
      expectPositive(ratioToFio);
    }
    expectPositive(report.summary.minRatio);
    expectPositive(report.summary.mixedMinRatio);
    for (const one of report.cases) {
      if (one.kind === "mixed") {
        expect(one.fioBytesRead).toBeGreaterThanOrEqual(one.bytesWanted);
      }
    }
    // The iologs are gone; the file that is read stays.
    expect(await readdir(path.join(folder, "nchunk-bench"))).toEqual(["random-32MiB.bin"]);
  });

  it("goes on without fio, and says how to get it", async () => {
    const report = (await benchJson("reader", { PATH: "/nonexistent" })) as ReaderReport;
    expectReaderReport(report);
    expect(report.fioVersion).toBeNull();
    expect(report.summary.medianRatio).toBeNull();
    for (const { fioNs, ratioToFio } of report.cases)
      expect([fioNs, ratioToFio]).toEqual([null, null]);
    expect(report.notes.join()).toMatch(/apt-get install .*fio/);
  });

  it("prints tables for people", async () => {
    const args = ["bench", "reader", "--tiny", "--dir", folder];
    const { status, stdout } = await nchunk(args, { PATH: "/nonexistent" });
    expect(status).toBe(0);
    for (const words of ["4.0 KiB", "rows of 896 B", "fs.promises", "apt-get"]) {
      expect(stdout).toContain(words);
    }
  });

  it("ends cleanly on Ctrl-C: nothing is printed, no iolog stays", async () => {
    const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
    const child = spawn(process.execPath, [cli, "bench", "reader", "--tiny", "--dir", folder], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    const files = path.join(folder, "nchunk-bench");
    const hasIologs = async (): Promise<boolean> =>
      (await readdir(files).catch(() => [])).some((name) => name.startsWith("replay-"));
    while (child.exitCode === null && !(await hasIologs())) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(stdout).toBe("");
    expect(await hasIologs()).toBe(false);
  });
});

describe("bench latency-model", () => {
  it("P5: judges the models by masks that they were not fitted on", async () => {
    const report = (await benchJson("latency-model")) as ModelReport;
    expect(report.masks).toBe(48);
    expect(report.fitted).toBe(24);
    expect(report.heldOut).toBe(24);
    expect(report.rounds).toBe(2);
    for (const name of ["sum", "sumUncalibrated", "batch"] as const) {
      const { r2, mape } = report.models[name];
      expect(r2).toBeLessThanOrEqual(1);
      expect(Number.isFinite(mape)).toBe(true);
      expect(mape).toBeGreaterThan(0);
    }
    expect(report.noise).toBeGreaterThan(0);
    expect(report.byRowBytes.map(({ rowBytes }) => rowBytes)).toEqual([896, 1792, 7168, 37888]);
    expect(report.byRowBytes.every(({ heldOut }) => heldOut === 6)).toBe(true);
    expect(report.byKind.map(({ kind }) => kind)).toEqual(["random", "selected"]);
    expect(report.verifiedRanges).toBeGreaterThan(100);
  });

  it("prints a table for people", async () => {
    const { status, stdout } = await nchunk(["bench", "latency-model", "--tiny", "--dir", folder]);
    expect(status).toBe(0);
    for (const words of ["sum of T[s]", "batch model", "rows of 37888 B", "Noise"]) {
      expect(stdout).toContain(words);
    }
  });
});

describe("wrong input", () => {
  it("a folder that is none is a clear error", async () => {
    const { status, stdout } = await nchunk(["bench", "reader", "--json", "--dir", "/nowhere"]);
    expect(status).toBe(1);
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.message).toMatch(/not a folder/);
  });
});
