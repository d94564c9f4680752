/** Hot prefixes: resident rows change what is read, never what comes out; and they go where they save most. */
import { writeFile } from "node:fs/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { budgetRows, createCalibration } from "@neuron-chunking/chunk-selector";
import type { Calibration, PolicyName } from "@neuron-chunking/chunk-selector";
import { simulatedDevice } from "@neuron-chunking/latency-model";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { calibrationPath, VlmExecutor } from "../src/index.js";
import type { OpenOptions, StepTrace } from "../src/index.js";
import { PrefixPlanner } from "../src/prefix-plan.js";
import { PolicyRows } from "../src/selection/policy-rows.js";
import { selectionSettings } from "../src/selection/settings.js";
import { Images, relativeError } from "./support/images.js";

const SEED = Number(process.env["FC_SEED"] ?? Date.now() % 2 ** 31);
console.log(`fast-check seed ${SEED}`);
/** Sums in another order: differences of rounding only. */
const ROUNDING = 1e-5;
const TOKEN_IDS = Array.from({ length: 40 }, (_, i) => 5 + ((i * 37) % 300));

/** A drive on which even a tiny matrix is many reads: 100 ns each and 1 ns for each byte. */
const SIZES = Array.from({ length: 64 }, (_, i) => 64 * (i + 1));
const FINE: DeviceProfile = {
  ...simulatedDevice("nvme-gen4"),
  name: "fine",
  table: { sizesBytes: SIZES, latencyNs: SIZES.map((size) => 100 + size) },
  saturationBytes: 4096,
  tailNsPerByte: 1 + 100 / 4096,
};

let images: Images;
beforeAll(async () => {
  images = await Images.create();
});
afterAll(() => images.remove());

interface Run {
  readonly logits: Float32Array;
  readonly greedy: number[];
  readonly steps: StepTrace[];
  readonly prefixBytes: number;
  readonly streamedBytes: number;
}

async function run(dir: string, options: OpenOptions): Promise<Run> {
  const executor = await VlmExecutor.open(dir, { profile: FINE, ...options });
  try {
    const steps: StepTrace[] = [];
    const session = executor.createSession({ onStep: (step) => steps.push(step) });
    await session.appendTokens(TOKEN_IDS);
    const logits = Float32Array.from(session.lastLogits!);
    const greedy: number[] = [];
    for await (const { id } of session.generate({ maxNewTokens: 6, stopTokenIds: [] })) {
      greedy.push(id);
    }
    const { prefixBytes, streamedBytes } = executor.plan();
    return { logits, greedy, steps, prefixBytes, streamedBytes };
  } finally {
    await executor.close();
  }
}

/** A budget that leaves room for this share of the streamed bytes. */
async function budgetFor(dir: string, share: number, options: OpenOptions): Promise<number> {
  const { minimumBytes, streamedBytes } = await VlmExecutor.plan(dir, options);
  return minimumBytes + Math.floor(share * streamedBytes);
}

const bytesWanted = (step: StepTrace): number =>
  step.projections.reduce((sum, projection) => sum + projection.bytesWanted, 0);

describe.each([
  ["qwen2-tied-f32", true],
  ["llava-untied-bf16", true],
  ["llama-rope3-f16", false],
])("dense on %s (bundled: %s)", (name, bundled) => {
  it.each([0.01, 0.3, 0.7, 1])("is the same with %d of the rows resident", async (share) => {
    const dir = await images.get(name, { bundled }, bundled ? "" : "-unbundled");
    const whole = await run(dir, {});
    const memoryBudgetBytes = await budgetFor(dir, share, {});
    const part = await run(dir, { memoryBudgetBytes });
    expect(relativeError(part.logits, whole.logits)).toBeLessThan(ROUNDING);
    expect(part.greedy).toEqual(whole.greedy);
    expect(part.prefixBytes).toBeGreaterThan(0);
    for (const step of part.steps) {
      expect(step.accuracy).toBe("exact");
      expect(bytesWanted(step) + part.prefixBytes).toBe(part.streamedBytes);
    }
    if (share === 1) expect(part.prefixBytes).toBe(part.streamedBytes);
  });
});

describe.each(["topk", "chunk", "lagrange"] as const)("%s", (policy) => {
  it("keeps at least the importance it keeps without, and reads less", async () => {
    const dir = await images.get("qwen2-tied-f32");
    const options: OpenOptions = { policy, sparsity: 0.5 };
    const without = await run(dir, options);
    const memoryBudgetBytes = await budgetFor(dir, 0.3, options);
    const part = await run(dir, { ...options, memoryBudgetBytes });
    // Only the first matrix sees the same input with either.
    const [before] = without.steps[0].projections;
    const [after] = part.steps[0].projections;
    const resident = part.steps[0].projections.filter(({ residentRows }) => residentRows > 0);
    expect(resident.length).toBeGreaterThan(0);
    if (policy !== "chunk" && after.residentRows > 0) {
      expect(after.importanceKept).toBeGreaterThanOrEqual(before.importanceKept - 1e-6);
    }
    expect(bytesWanted(part.steps[0])).toBeLessThan(bytesWanted(without.steps[0]));
    for (const { rows, residentRows, bytesWanted: bytes, totalRows } of part.steps[0].projections) {
      expect(rows).toBeLessThanOrEqual(totalRows);
      if (rows === residentRows) expect(bytes).toBe(0);
    }
  });

  it("reads nothing and is exact once everything is resident", async () => {
    const dir = await images.get("qwen2-tied-f32");
    const dense = await run(dir, {});
    const memoryBudgetBytes = await budgetFor(dir, 1, { policy });
    const all = await run(dir, { policy, memoryBudgetBytes });
    expect(relativeError(all.logits, dense.logits)).toBeLessThan(ROUNDING);
    for (const step of all.steps) {
      expect(step.accuracy).toBe("exact");
      expect(bytesWanted(step)).toBe(0);
    }
  });
});

function bundle(rows: number, rowBytes: number, index = 0): BundleInfo {
  return {
    name: `layers.${index}.mlp_in`,
    kind: "mlp_in",
    layer: index,
    offsetBytes: 0,
    rows,
    rowBytes,
    dtype: "f32",
    parts: [],
  };
}

describe("the image's own calibration", () => {
  it("decides which rows are kept, and is not needed", async () => {
    const dir = await images.get("qwen2-tied-f32", {}, "-calibrated");
    const options: OpenOptions = { policy: "lagrange", profile: FINE };
    const memoryBudgetBytes = await budgetFor(dir, 0.3, options);
    const before = await VlmExecutor.plan(dir, { ...options, memoryBudgetBytes });
    expect(before.prefix.basis).toBe("uniform");
    const executor = await VlmExecutor.open(dir);
    const calibration = await executor.measure([{ tokenIds: TOKEN_IDS }]);
    await executor.close();
    await writeFile(calibrationPath(dir), JSON.stringify(calibration));
    const after = await VlmExecutor.plan(dir, { ...options, memoryBudgetBytes });
    expect(after.prefix.basis).toBe("calibration");
    expect(after.prefix.bundles).not.toEqual(before.prefix.bundles);
    // A file that is not one is no reason not to open the model.
    await writeFile(calibrationPath(dir), "{}");
    const damaged = await VlmExecutor.plan(dir, { ...options, memoryBudgetBytes });
    expect(damaged).toEqual(before);
  });
});

describe("rows beyond a prefix", () => {
  const cases = fc.record({
    importance: fc.array(fc.float({ min: 0, max: 4, noNaN: true }), {
      minLength: 1,
      maxLength: 90,
    }),
    resident: fc.nat({ max: 90 }),
    sparsity: fc.double({ min: 0, max: 0.95, noNaN: true }),
    policy: fc.constantFrom<PolicyName>("dense", "topk", "threshold", "chunk", "lagrange"),
  });

  it("are all that is chosen, and hold what the resident ones leave of top-k", () => {
    fc.assert(
      fc.property(cases, ({ importance, resident, sparsity, policy }) => {
        const rows = importance.length;
        const values = Float32Array.from(importance);
        const residentRows = Math.min(resident, rows);
        const settings = selectionSettings({ policy, sparsity, threshold: 1, profile: FINE });
        const chooser = new PolicyRows(settings, rows);
        const { plan } = chooser.choose(bundle(rows, 64), values, undefined, residentRows);
        const chosen: number[] = [];
        for (let c = 0; c < plan.chunkCount; c++) {
          for (let r = 0; r < plan.lengths[c]; r++) chosen.push(plan.starts[c] + r);
        }
        expect(chosen.every((row) => row >= residentRows && row < rows)).toBe(true);
        expect(new Set(chosen).size).toBe(chosen.length);
        const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
        const total = (of: number[]): number => of.reduce((sum, row) => sum + values[row], 0);
        const topk = order.slice(0, budgetRows(rows, sparsity));
        const held = Array.from({ length: residentRows }, (_, row) => row);
        const kept = total(held) + total(chosen);
        if (policy === "dense") expect(chosen).toHaveLength(rows - residentRows);
        if (policy === "threshold") {
          expect(chosen).toEqual(
            [...values.keys()].filter((row) => row >= residentRows && values[row] >= 1),
          );
        }
        if (policy === "topk" || policy === "lagrange") {
          expect(kept).toBeGreaterThanOrEqual(total(topk) * (1 - 1e-6));
        }
        if (policy === "topk" || policy === "chunk") {
          expect(chosen.length).toBeLessThanOrEqual(topk.length);
        }
      }),
      { seed: SEED, numRuns: 400 },
    );
  });
});

/** Activation counts of a matrix stored hottest first, out of 100 samples. */
function counted(bundles: readonly BundleInfo[], active: (row: number, i: number) => number) {
  return createCalibration({
    model: { identity: "0", type: "test", bundled: true },
    source: { prompts: 1, passes: 100, measuredPasses: 1, tokens: 100 },
    bundles: bundles.map(({ name, layer, rows, rowBytes }, i) => ({
      name,
      layer,
      rows,
      rowBytes,
      samples: 100,
      importance: { total: 1, cv: 1, quantiles: { probabilities: [], values: [] } },
      activeCounts: Array.from({ length: rows }, (_, row) => active(row, i)),
      weight: 1,
      weightPerImportance: 1,
      points: [],
    })),
  });
}

describe("where a budget goes", () => {
  const shapes = [bundle(400, 2048, 0), bundle(1000, 512, 1), bundle(300, 4096, 2)];
  const all = shapes.reduce((sum, { rows, rowBytes }) => sum + rows * rowBytes, 0);
  const planner = (policy: PolicyName, calibration?: Calibration) =>
    new PrefixPlanner(
      shapes,
      selectionSettings({ policy, sparsity: 0.5, profile: FINE }),
      calibration,
    );
  const cold = counted(shapes, (row, i) =>
    Math.max(0, 90 - Math.floor((row * 90) / shapes[i].rows)),
  );

  it.each(["dense", "topk", "lagrange"] as const)(
    "%s: holds, is used up, and only helps",
    (policy) => {
      const plans = planner(policy, cold);
      let before = Infinity;
      for (let spare = 0; spare <= all; spare += 77_777) {
        const plan = plans.fill(spare);
        expect(plan.bytes).toBeLessThanOrEqual(spare);
        expect(spare - plan.bytes).toBeLessThan(4096);
        expect(plan.expectedReadNs).toBeLessThanOrEqual(before * (1 + 1e-9));
        before = plan.expectedReadNs;
      }
      expect(plans.fill(all)).toMatchObject({ bytes: all, expectedReadNs: 0 });
      expect(plans.fill(0)).toMatchObject({ bytes: 0, bundles: [] });
    },
  );

  it("goes to the rows that are read more often", () => {
    // The second matrix is always active, the others hardly ever.
    const plan = planner(
      "lagrange",
      counted(shapes, (_, i) => (i === 1 ? 100 : 5)),
    ).fill(512 * 1000);
    expect(plan.bundles.map(({ bundle: name, rows }) => [name, rows])).toEqual([
      ["layers.1.mlp_in", 1000],
    ]);
    expect(plan.basis).toBe("calibration");
  });

  it("saves about as much as any split of the same bytes", () => {
    const plans = planner("lagrange", cold);
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.tuple(share, share, share), (shares) => {
        const rows = shapes.map(({ rows: most }, i) => Math.floor(most * shares[i]));
        const bytes = rows.reduce((sum, count, i) => sum + count * shapes[i].rowBytes, 0);
        const plan = plans.fill(bytes);
        // One step of 64 KiB may not have fitted.
        const slackNs = (65_536 + 4096) * (1 + 100 / 4096);
        expect(plan.expectedReadNs).toBeLessThanOrEqual(plans.expectedReadNs(rows) + slackNs);
      }),
      { seed: SEED, numRuns: 200 },
    );
  });
});
