import { kernelBench } from "@neuron-chunking/vlm-executor";
import { beforeAll, describe, expect, it } from "vitest";
import type { KernelReport } from "../src/bench/kernels/bench-kernels";
import { BUNDLES, kernelCases, TOKENS } from "../src/bench/kernels/cases";
import { KERNEL_EFFORTS } from "../src/bench/kernels/effort";
import { nchunk } from "./support/cli";

let report: KernelReport;
beforeAll(async () => {
  const { status, stdout, stderr } = await nchunk(["bench", "kernels", "--tiny", "--json"]);
  if (status !== 0) throw new Error(`bench kernels ended with ${status}: ${stdout} ${stderr}`);
  report = JSON.parse(stdout) as KernelReport;
});

const LIMITS = ["stream", "peer", "multiplyAdd"];

describe("bench kernels --json", () => {
  it("has every operation, dtype, number of tokens and bundle", () => {
    const chunked = report.cases.filter(({ op }) => op.startsWith("chunked"));
    const plain = chunked.filter(({ target }) => !target.includes("-"));
    expect(plain).toHaveLength(2 * 5 * TOKENS.length * BUNDLES.length);
    const others = report.cases.filter(({ op }) => !op.startsWith("chunked"));
    expect(new Set(others.map(({ op }) => op))).toEqual(
      new Set(["linear", "attention", "rmsNorm", "layerNorm"]),
    );
    expect(report.notes).toEqual([]);
  });

  it("times what a target with a suffix rounds, and nothing else of it", () => {
    const rounded = report.cases.filter(({ target }) => target.includes("-"));
    const { target, reduced } = kernelBench.features();
    expect(new Set(rounded.map((one) => one.target))).toEqual(
      new Set(reduced.length > 0 ? [target] : []),
    );
    for (const { op, t, dtype } of rounded) {
      expect(["linear", "chunked-resident"]).toContain(op);
      if (t === 1) expect(dtype).toMatch(/^int/);
    }
    const many = rounded.filter(({ op, t }) => op === "chunked-resident" && t > 1);
    const isMany = reduced.some((name) => name !== "int8-dot");
    expect(many).toHaveLength(isMany ? 5 * (TOKENS.length - 1) * BUNDLES.length : 0);
  });

  it("has figures that follow from one another", () => {
    for (const one of report.cases) {
      expect(one.ns).toBeGreaterThan(0);
      expect(one.fractionOfLimit).toBeGreaterThan(0);
      expect(LIMITS).toContain(one.limit);
      expect(one.limit === "peer").toBe(one.peerGflops !== null);
      if (one.op.startsWith("chunked") || one.op === "linear") {
        expect(one.gflops * one.ns).toBeCloseTo(2 * one.t * one.k * one.n, 0);
      }
      if (one.limit === "stream" && !one.op.endsWith("Norm")) expect(one.t).toBeLessThan(16);
      // One round: its ratio is that of the medians.
      expect(one.rounds).toBe(1);
      const limits = {
        stream: one.gbps / one.streamGbps,
        peer: one.gflops / (one.peerGflops ?? NaN),
        multiplyAdd: one.gflops / one.multiplyAddGflops,
      };
      expect(one.fractionOfLimit / limits[one.limit]).toBeCloseTo(1, 6);
    }
  });

  it("counts the bytes of rows with their scales", () => {
    const bytes = (dtype: string, k: number, n: number): number => {
      const one = report.cases.find(
        (each) =>
          each.op === "chunked-resident" && each.dtype === dtype && each.k === k && each.n === n,
      );
      return Math.round((one?.gbps ?? NaN) * (one?.ns ?? NaN));
    };
    // 304 columns of 9728 / 32: ten groups.
    expect(bytes("f32", 14, 304)).toBe(14 * 304 * 4);
    expect(bytes("bf16", 14, 304)).toBe(14 * 304 * 2);
    expect(bytes("int8", 14, 304)).toBe(14 * (304 + 20));
    expect(bytes("int4", 14, 304)).toBe(14 * (152 + 20));
  });

  it("names the peer, or says why there is none and what to do", () => {
    const { name, reason, bestGflops } = report.limits.peer;
    if (name === null) {
      expect(reason).toMatch(/apt-get install/);
      expect(bestGflops).toBeNull();
    } else {
      expect(name).toMatch(/oneDNN|OpenBLAS/);
      expect(bestGflops).toBeGreaterThan(0);
    }
  });

  it("summarises each kernel, dtype and number of tokens once", () => {
    const keys = report.summary.map(
      ({ op, dtype, target, t, limit }) => `${target} ${op} ${dtype} ${t} ${limit}`,
    );
    expect(new Set(keys).size).toBe(keys.length);
    for (const { medianFraction, leastFraction } of report.summary) {
      expect(leastFraction).toBeLessThanOrEqual(medianFraction);
    }
  });
});

describe("the cases of bench kernels", () => {
  it("fit the arena of a thorough run, all of them", () => {
    const { arenaBytes } = KERNEL_EFFORTS.thorough;
    for (const { spec } of kernelCases(KERNEL_EFFORTS.thorough)) {
      if (spec.op === "chunked") expect(spec.k * spec.n * 4).toBeLessThan(arenaBytes);
    }
  });
});
