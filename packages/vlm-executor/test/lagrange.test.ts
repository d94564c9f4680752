/** The policy `lagrange` in a model: equal importance, one price, and the labels. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  budgetRows,
  createSelector,
  importanceKept,
  tealAllocations,
} from "@neuron-chunking/chunk-selector";
import type { Calibration } from "@neuron-chunking/chunk-selector";
import { estimatePlanNs, LatencyTable, simulatedDevice } from "@neuron-chunking/latency-model";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { VlmExecutor } from "../src/index.js";
import type { OpenOptions, StepTrace } from "../src/index.js";
import { PolicyRows } from "../src/selection/policy-rows.js";
import { selectionSettings } from "../src/selection/settings.js";
import { Images, relativeError } from "./support/images.js";
import { code } from "./support/sessions.js";

const MODEL = "qwen2-tied-f32";
const TOKEN_IDS = Array.from({ length: 40 }, (_, i) => 5 + ((i * 37) % 300));
const SEED = Number(process.env["FC_SEED"] ?? Date.now() % 2 ** 31);

/** A device on which even a tiny model's matrices are many reads: 100 ns each and 1 ns for each byte. */
const SIZES = Array.from({ length: 64 }, (_, i) => 64 * (i + 1));
const FINE = drive(100);

/** A device with this cost for each read, ns, and 1 ns for each byte. */
function drive(readNs: number): DeviceProfile {
  return {
    ...simulatedDevice("nvme-gen4"),
    name: `${readNs} ns`,
    table: { sizesBytes: SIZES, latencyNs: SIZES.map((size) => readNs + size) },
    saturationBytes: 4096,
    tailNsPerByte: 1 + readNs / 4096,
  };
}

let images: Images;
let dir: string;
let calibration: Calibration;
beforeAll(async () => {
  images = await Images.create();
  dir = await images.get(MODEL);
  const executor = await VlmExecutor.open(dir, { blockTokens: 8 });
  calibration = await executor.measure([{ tokenIds: TOKEN_IDS }]);
  await executor.close();
});
afterAll(() => images.remove());

/** Traces of a prefill and `decode` passes of one token. */
async function steps(options: OpenOptions, decode = 0): Promise<StepTrace[]> {
  const executor = await VlmExecutor.open(dir, { profile: FINE, ...options });
  try {
    const all: StepTrace[] = [];
    const session = executor.createSession({ onStep: (step) => all.push(step) });
    await session.appendTokens(TOKEN_IDS);
    if (decode > 0) {
      const tokens = session.generate({ maxNewTokens: decode + 1, stopTokenIds: [] });
      for await (const token of tokens) void token;
    }
    return all;
  } finally {
    await executor.close();
  }
}

const rowsOf = ({ projections }: StepTrace) => projections.map(({ rows }) => rows);
const latencyOf = ({ projections }: StepTrace) =>
  projections.reduce((sum, { estimatedReadNs }) => sum + estimatedReadNs, 0);

describe("at equal importance", () => {
  it("keeps at least what topk keeps, in no more modelled latency", () => {
    console.log(`fast-check seed ${SEED}`);
    const shape = fc.record({
      rows: fc.integer({ min: 1, max: 300 }),
      rowBytes: fc.constantFrom(64, 200, 1024, 9000),
      sparsity: fc.double({ min: 0, max: 0.95, noNaN: true }),
      seed: fc.integer(),
      device: fc.constantFrom(FINE, simulatedDevice("orin-nano")),
    });
    fc.assert(
      fc.property(shape, ({ rows, rowBytes, sparsity, seed, device }) => {
        let state = seed >>> 0;
        const importance = Float32Array.from({ length: rows }, () => {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
          return (state / 2 ** 32) ** 4;
        });
        const info = { name: "m", rows, rowBytes } as BundleInfo;
        const settings = selectionSettings({ policy: "lagrange", sparsity, profile: device });
        const { plan } = new PolicyRows(settings, rows).choose(info, importance, undefined);
        const table = new LatencyTable(device);
        const topk = createSelector("topk", { maxRows: rows }).select({
          importance,
          rows,
          rowBytes,
          budgetRows: budgetRows(rows, sparsity),
        });
        expect(importanceKept(plan, importance)).toBeGreaterThanOrEqual(
          importanceKept(topk, importance) - 1e-6,
        );
        expect(estimatePlanNs(plan, rowBytes, table)).toBeLessThanOrEqual(
          estimatePlanNs(topk, rowBytes, table) * (1 + 1e-9),
        );
      }),
      { seed: SEED, numRuns: 150 },
    );
  });

  it("is lossy where rows are left out in but one matrix, exact where none is", async () => {
    const all = Object.fromEntries(calibration.bundles.map(({ name }) => [name, 0]));
    const options = { policy: "lagrange", sparsities: all } as const;
    expect((await steps(options)).map(({ accuracy }) => accuracy)).toEqual(["exact"]);
    const one = { ...all, "layers.1.mlp_out": 0.5 };
    const [step] = await steps({ ...options, sparsities: one });
    expect(step.accuracy).toBe("lossy");
    const lossy = step.projections.filter(({ rows, totalRows }) => rows < totalRows);
    expect(lossy.map(({ bundle }) => bundle)).toEqual(["layers.1.mlp_out"]);
  });

  it("gives dense output when everything is kept", async () => {
    const logits = async (options: OpenOptions) => {
      const executor = await VlmExecutor.open(dir, options);
      const result = await executor.logits({ tokenIds: TOKEN_IDS });
      await executor.close();
      return result;
    };
    const all = await logits({ policy: "lagrange", sparsity: 0 });
    expect(all).toMatchObject({ policy: "lagrange", accuracy: "exact" });
    expect(relativeError(all.logits[0], (await logits({})).logits[0])).toBeLessThan(1e-5);
  });

  it("takes a sparsity for each matrix, as topk does", async () => {
    const [{ sparsities }] = tealAllocations(calibration, [0.4]).allocations;
    const [topk] = await steps({ policy: "topk", sparsities });
    for (const { bundle, rows, totalRows } of topk.projections) {
      expect(rows).toBe(budgetRows(totalRows, sparsities[bundle]));
    }
    // Where a read costs some rows, scattered rows cost far more than the same importance in chunks.
    const slow = { sparsities, profile: drive(1000) };
    const [scattered] = await steps({ policy: "topk", ...slow });
    const [lagrange] = await steps({ policy: "lagrange", ...slow });
    expect(latencyOf(lagrange)).toBeLessThan(0.95 * latencyOf(scattered));
    expect(lagrange.projections[0].importanceKept).toBeGreaterThanOrEqual(
      topk.projections[0].importanceKept - 1e-6,
    );
  });
});

describe("one price", () => {
  /** A price at which some rows of every matrix are left out. */
  const PRICE = 2e-5;

  it("stands in the traces, and each matrix pays it", async () => {
    const [step] = await steps({ policy: "lagrange", pricePerNs: PRICE, calibration });
    expect(step.pricePerNs).toBe(PRICE);
    expect(step.estimatedError).toBeGreaterThan(0);
    expect(step.accuracy).toBe("lossy");
    for (const { errorPerNs, pricePerNs } of step.projections) {
      expect(errorPerNs! / PRICE).toBeCloseTo(1, 6);
      expect(pricePerNs).toBeGreaterThan(0);
    }
  });

  it("reads less the higher it is, all of it near 0", async () => {
    const at = async (pricePerNs: number) =>
      (await steps({ policy: "lagrange", pricePerNs, calibration }))[0];
    const free = await at(1e-15);
    expect(free.accuracy).toBe("exact");
    expect(free.estimatedError).toBe(0);
    const [low, high] = [await at(PRICE / 4), await at(PRICE * 4)];
    expect(latencyOf(low)).toBeLessThan(latencyOf(free));
    expect(latencyOf(high)).toBeLessThan(latencyOf(low));
    expect(high.estimatedError!).toBeGreaterThan(low.estimatedError!);
  });

  it("buys more rows of a matrix whose loss weighs more", async () => {
    const kept: number[] = [];
    for (const factor of [1 / 64, 1 / 16, 1 / 4, 1, 4, 16, 64]) {
      const bundles = calibration.bundles.map((bundle, i) =>
        i === 0 ? { ...bundle, weight: bundle.weight * factor } : bundle,
      );
      const options = { pricePerNs: PRICE, calibration: { ...calibration, bundles } };
      const [step] = await steps({ policy: "lagrange", ...options });
      kept.push(rowsOf(step)[0]);
    }
    expect(kept).toEqual([...kept].sort((a, b) => a - b));
    // From nothing to everything, and not at once.
    expect(kept[0]).toBe(0);
    expect(kept.at(-1)).toBe(calibration.bundles[0].rows);
    expect(new Set(kept).size).toBeGreaterThan(2);
  });

  it("is found for a latency target, within it from the first pass of each phase on", async () => {
    const [dense] = await steps({ policy: "dense" });
    const latencyTargetNs = 0.5 * latencyOf(dense);
    const all = await steps({ policy: "lagrange", latencyTargetNs, calibration }, 40);
    for (const first of [all[0], all[1]]) {
      expect(first.pricePerNs).toBeUndefined();
      expect(latencyOf(first)).toBeLessThanOrEqual(latencyTargetNs);
    }
    const settled = all.slice(15);
    const mean = settled.reduce((sum, step) => sum + latencyOf(step), 0) / settled.length;
    console.log(`mean latency over target ${(mean / latencyTargetNs).toFixed(4)}`);
    expect(Math.abs(mean / latencyTargetNs - 1)).toBeLessThan(0.05);
    expect(settled.every(({ pricePerNs }) => pricePerNs! > 0)).toBe(true);
  });

  it("comes with an answer, and does the same when given as it is", async () => {
    const options = { policy: "lagrange", calibration, profile: FINE } as const;
    const ask = async (more: OpenOptions) => {
      const executor = await VlmExecutor.open(dir, { ...options, ...more });
      const request = { prompt: "Why is that?", chat: false, maxNewTokens: 30, stopTokenIds: [] };
      const answer = await executor.ask(request).answer();
      await executor.close();
      return answer;
    };
    const found = await ask({ latencyTargetNs: 150_000 });
    expect(found.pricePerNs).toBeGreaterThan(0);
    const fixed = await ask({ pricePerNs: found.pricePerNs! });
    expect(fixed.pricePerNs).toBe(found.pricePerNs);
    const perPass = fixed.totals.decode.estimatedReadNs / fixed.totals.decode.steps;
    expect(Math.abs(perPass / 150_000 - 1)).toBeLessThan(0.2);
    const equal = { sparsity: 0.5, balance: "equal-importance" } as const;
    expect((await ask(equal)).pricePerNs).toBeUndefined();
  });

  it("is found for a quality target", async () => {
    const qualityTarget = 0.08;
    const all = await steps({ policy: "lagrange", qualityTarget, calibration }, 40);
    for (const first of [all[0], all[1]]) {
      expect(first.estimatedError).toBeLessThanOrEqual(qualityTarget * (1 + 1e-6));
    }
    const settled = all.slice(15);
    const mean = settled.reduce((sum, step) => sum + step.estimatedError!, 0) / settled.length;
    expect(Math.abs(mean / qualityTarget - 1)).toBeLessThan(0.05);
  });

  it("keeps everything, and says exact, where the target allows it", async () => {
    const [dense] = await steps({ policy: "dense" });
    const latencyTargetNs = 2 * latencyOf(dense);
    const all = await steps({ policy: "lagrange", latencyTargetNs, calibration }, 5);
    for (const step of all) expect(step.accuracy).toBe("exact");
  });
});

describe("options", () => {
  it.each([
    ["latencyTargetNs", { policy: "topk", latencyTargetNs: 1e6 }],
    ["pricePerNs", { policy: "dense", pricePerNs: 1 }],
    ["latencyTargetNs and qualityTarget", { latencyTargetNs: 1e6, qualityTarget: 1 }],
    ["sparsities", { latencyTargetNs: 1e6, sparsities: {} }],
    ["qualityTarget", { qualityTarget: 0 }],
    ["latencyTargetNs", { latencyTargetNs: Infinity }],
    ["pricePerNs", { pricePerNs: NaN }],
    ["sparsities of layers.0.attn_in", { sparsities: { "layers.0.attn_in": 1.5 } }],
  ] as [string, OpenOptions][])("refuses %s that makes no sense: %j", (name, options) => {
    const refused = () => selectionSettings({ policy: "lagrange", calibration, ...options });
    expect(refused).toThrow(
      expect.objectContaining({
        code: "INVALID_OPTION",
        message: expect.stringContaining(name) as string,
      }) as Error,
    );
  });

  it("needs a calibration for a price, and says how to make one", async () => {
    const open = VlmExecutor.open(dir, { policy: "lagrange", latencyTargetNs: 1e6 });
    await expect(open).rejects.toMatchObject({
      code: "CALIBRATION_MISSING",
      message: expect.stringContaining("nchunk calibrate") as string,
    });
    expect(await code(VlmExecutor.open(dir, { policy: "lagrange", pricePerNs: 1 }))).toBe(
      "CALIBRATION_MISSING",
    );
  });
});
