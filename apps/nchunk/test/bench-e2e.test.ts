import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { simulatedDevice } from "@neuron-chunking/latency-model";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeGguf } from "../src/bench/e2e/model-files";
import { SHAPES } from "../src/bench/e2e/model-shape";
import { NODE_LLAMA_CPP_VERSION } from "../src/bench/e2e/node-llama-cpp";
import { RandomWeights } from "../src/bench/e2e/random-weights";
import { CLI, nchunk } from "./support/cli";

const POLICIES = ["dense", "topk", "chunk", "lagrange"];
const PHASES = ["prefill", "frame", "decode"];

interface Case {
  model: string;
  phase: string;
  policy: string;
  tokens: number;
  wallNs: number;
  ioNs: number;
  computeNs: number;
  selectNs: number;
  stallNs: number;
  bytesRead: number;
  peakRssBytes: number;
  budgetBytes: number;
  tokensPerSecond: number;
  importanceKept: number;
  sparsity: number;
  overlap: number;
}

interface Report {
  cases: Case[];
  peer: unknown[];
  peerSkipped: string;
  summary: Record<string, number | null>;
  note: string;
  seed: number;
}

let folder: string;
let report: Report;
const args = (): string[] => ["bench", "e2e", "--tiny", "--json", "--dir", folder];
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-bench-e2e-"));
  const { status, stdout, stderr } = await nchunk(args());
  if (status !== 0) throw new Error(`bench e2e ended with ${status}: ${stderr}`);
  report = JSON.parse(stdout) as Report;
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

const of = (policy: string, phase: string): Case => {
  const found = report.cases.find((one) => one.policy === policy && one.phase === phase);
  if (found === undefined) throw new Error(`no case of ${policy} in ${phase}`);
  return found;
};

/** Runs the hidden verb of a case, as the bench does. */
function runCase<T>(request: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CLI, "bench", "e2e-child"], { stdio: "pipe" });
    child.on("error", reject);
    child.stdin.end(JSON.stringify(request));
    void Promise.all([text(child.stdout), text(child.stderr)]).then(([stdout, stderr]) => {
      try {
        resolve(JSON.parse(stdout) as T);
      } catch {
        reject(new Error(stderr));
      }
    });
  });
}

describe("bench e2e --json", () => {
  it("has every policy in every phase, once", () => {
    const expected = POLICIES.flatMap((policy) => PHASES.map((phase) => `${policy} ${phase}`));
    const got = report.cases.map(({ policy, phase }) => `${policy} ${phase}`);
    expect(got.sort()).toEqual(expected.sort());
  });

  it("gives a positive number for whatever takes time, space or bytes", () => {
    for (const one of report.cases) {
      const { wallNs, ioNs, computeNs, selectNs, stallNs, bytesRead } = one;
      for (const value of [wallNs, ioNs, computeNs, selectNs, bytesRead, one.overlap]) {
        expect(value).toBeGreaterThan(0);
      }
      expect(stallNs).toBeGreaterThanOrEqual(0);
      expect(one.tokensPerSecond).toBeCloseTo(one.tokens / (wallNs / 1e9), 3);
      expect(Number.isInteger(one.budgetBytes)).toBe(true);
      // A Node.js process alone has more than this.
      expect(one.peakRssBytes).toBeGreaterThan(30 * 2 ** 20);
    }
  });

  it("counts the tokens of each phase: a prompt, frames of 196, tokens that were decoded", () => {
    for (const policy of POLICIES) {
      expect(PHASES.map((phase) => of(policy, phase).tokens)).toEqual([8, 196, 2]);
    }
  });

  it("reads every byte under dense, once for each pass, and fewer under topk", () => {
    // 2 layers of 128 x (128 + 64 + 64), 128 x 128, 128 x 768 and 384 x 128 weights of 2 bytes.
    const layersBytes = 2 * 2 * (128 * 256 + 128 * 128 + 128 * 768 + 384 * 128);
    for (const [phase, passes] of [
      ["prefill", 1],
      ["frame", 1],
      ["decode", 2],
    ] as const) {
      expect(of("dense", phase).bytesRead).toBeGreaterThanOrEqual(passes * layersBytes);
      expect(of("dense", phase).bytesRead).toBeLessThan(1.1 * passes * layersBytes);
      expect(of("topk", phase).bytesRead).toBeLessThan(of("dense", phase).bytesRead);
      expect(of("dense", phase).importanceKept).toBe(1);
    }
  });

  it("keeps equal importance in the prompt: lagrange by itself, chunk by its sparsity", () => {
    const { importanceKept } = of("topk", "prefill");
    expect(importanceKept).toBeGreaterThan(0.5);
    expect(importanceKept).toBeLessThan(1);
    // It meets every matrix's own importance, from activations that other rows have changed.
    expect(of("lagrange", "prefill").importanceKept).toBeGreaterThan(importanceKept - 0.02);
    expect(of("topk", "prefill").sparsity).toBe(0.5);
    expect(of("chunk", "prefill").sparsity).toBeLessThan(0.5);
    expect(Math.abs(of("chunk", "prefill").importanceKept - importanceKept)).toBeLessThan(0.05);
  });

  it("sums up what the cases say", () => {
    const rss = report.cases.map(({ peakRssBytes, budgetBytes }) => peakRssBytes / budgetBytes);
    expect(report.summary["rssToBudgetMax"]).toBe(Math.max(...rss));
    expect(report.summary["overlapMedian"]).toBeGreaterThan(0);
    for (const peer of ["peer25", "peer50", "peer75"]) expect(report.summary[peer]).toBeNull();
  });

  it("says that the model is small and why there is no peer", () => {
    expect(report.note).toMatch(/tiny/);
    expect(report.peer).toEqual([]);
    expect(report.peerSkipped).toMatch(/tiny/);
    expect(report.seed).toBe(1);
  });

  it("leaves the image, and no checkpoint, and uses it again", async () => {
    const own = path.join(folder, "nchunk-bench");
    const [name] = await readdir(own);
    expect(await readdir(path.join(own, name))).toEqual(["image"]);
    const image = path.join(own, name, "image/flash.safetensors");
    const before = await stat(image);
    const { status } = await nchunk(args());
    expect(status).toBe(0);
    const after = await stat(image);
    expect([after.ino, after.mtimeMs]).toEqual([before.ino, before.mtimeMs]);
  });

  it("gives an error of a case its code", async () => {
    const work = { prefillTokens: 1, frames: 0, decodeTokens: 1, phaseMs: 1 };
    const request = { kind: "executor", imageDir: path.join(folder, "none"), policy: "dense" };
    const answer = await runCase<{ error: { code: string; message: string } }>({
      ...{ ...request, sparsity: 0, budgetBytes: 2 ** 30, contextLength: 8, work },
      profile: simulatedDevice("nvme-gen4"),
    });
    expect(answer.error.code).toBe("NOT_FOUND");
    expect(answer.error.message).toContain("manifest.json");
  });

  it("refuses a size that there is not", async () => {
    const { status, stderr } = await nchunk(["bench", "e2e", "--size", "70b"]);
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/0\.5b, 7b/);
  });

  it("prints tables for people", async () => {
    const { status, stdout } = await nchunk(["bench", "e2e", "--tiny", "--dir", folder]);
    expect(status).toBe(0);
    for (const policy of POLICIES) expect(stdout).toContain(`decode, ${policy}`);
    expect(stdout).toContain("Not compared with llama.cpp: A tiny run");
  });
});

describe("the model that llama.cpp runs", () => {
  it("is the one that we run: both decode the same tokens", async (context) => {
    // The bench installs it; nobody else does.
    const cache = process.env["NCHUNK_CACHE_DIR"] ?? path.join(os.homedir(), ".cache/nchunk");
    const moduleDir = path.join(cache, "peer", `node-llama-cpp-${NODE_LLAMA_CPP_VERSION}`);
    if (!existsSync(moduleDir)) {
      context.skip(`no ${moduleDir}: \`nchunk bench e2e\` installs it`);
      return;
    }
    const file = path.join(folder, "tiny.gguf");
    await writeGguf(file, SHAPES.tiny, {
      weights: new RandomWeights(report.seed),
      report: () => undefined,
      signal: new AbortController().signal,
    });
    const work = { prefillTokens: 8, frames: 0, decodeTokens: 3, phaseMs: 60_000 };
    const llama = { kind: "llama", moduleDir, file, contextLength: 64, threads: 1, work };
    const theirs = await runCase<{ tokenIds: number[]; memoryMapped: boolean }>(llama);
    const [name] = await readdir(path.join(folder, "nchunk-bench"));
    const ours = await runCase<{ tokenIds: number[] }>({
      kind: "executor",
      imageDir: path.join(folder, "nchunk-bench", name, "image"),
      policy: "dense",
      sparsity: 0,
      budgetBytes: 512 * 2 ** 20,
      contextLength: 64,
      work,
      profile: simulatedDevice("nvme-gen4"),
    });
    expect(theirs.memoryMapped).toBe(true);
    expect(theirs.tokenIds).toHaveLength(4);
    expect(ours.tokenIds).toEqual(theirs.tokenIds);
  });
});
