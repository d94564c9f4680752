import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { nchunkJson } from "./support/cli";

interface DemoReport {
  directIo: boolean;
  runs: {
    policy: string;
    exact: boolean;
    questions: number;
    correct: number;
    bytesRead: number;
    chunks: number;
    meanChunkRows: number;
    ioNs: number;
    tokensPerSecond: number;
    answers: { id: string; answer: string }[];
  }[];
  atScale: {
    rows: number;
    rowBytes: number;
    policies: Record<
      "dense" | "topk" | "chunk" | "lagrange",
      { ns: number; bytesRead: number; importance: number }
    >;
  };
}

describe("demo", () => {
  it("asks six questions under each policy and reads a real layer at equal importance", async () => {
    const report = (await nchunkJson(["demo"])) as unknown as DemoReport;
    expect(report.runs.map(({ policy }) => policy)).toEqual(["dense", "topk", "chunk", "lagrange"]);
    for (const run of report.runs) {
      expect(run.questions).toBe(6);
      // On a disk where whole matrices are read as fast, lagrange leaves nothing out.
      if (run.policy !== "lagrange") expect(run.exact).toBe(run.policy === "dense");
      for (const field of [
        "bytesRead",
        "chunks",
        "meanChunkRows",
        "ioNs",
        "tokensPerSecond",
      ] as const) {
        expect(run[field]).toBeGreaterThan(0);
      }
    }
    const [dense, topk, chunk] = report.runs;
    // tools/train-demo-model/demo_model/demo_answers.py made the witness.
    const witness = JSON.parse(
      await readFile(new URL("fixtures/demo-answers.json", import.meta.url), "utf8"),
    ) as { answers: Record<string, string> };
    const said = Object.fromEntries(dense.answers.map(({ id, answer }) => [id, answer.trim()]));
    expect(said).toEqual(witness.answers);
    expect(topk.bytesRead).toBeLessThan(dense.bytesRead * 1.5);
    expect(chunk.meanChunkRows).toBeGreaterThan(topk.meanChunkRows);

    const { rows, rowBytes, policies } = report.atScale;
    expect([rows, rowBytes]).toEqual([18944, 7168]);
    expect(policies.dense.importance).toBeCloseTo(1);
    expect(policies.dense.bytesRead).toBeGreaterThanOrEqual(rows * rowBytes);
    // Equal importance to within a row's worth.
    expect(policies.topk.importance).toBeGreaterThanOrEqual(policies.chunk.importance);
    expect(policies.topk.importance - policies.chunk.importance).toBeLessThan(1e-3);
    expect(policies.lagrange.importance).toBeGreaterThanOrEqual(policies.chunk.importance - 1e-6);
    for (const { ns } of Object.values(policies)) expect(ns).toBeGreaterThan(0);
  });
});
