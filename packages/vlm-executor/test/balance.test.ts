/** `lagrange` at a sparsity with a calibration: one price, fixed when the model is opened. */
import { writeFile } from "node:fs/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { budgetRows, createSelector, hotColdPermutation } from "@neuron-chunking/chunk-selector";
import { LatencyTable, simulatedDevice } from "@neuron-chunking/latency-model";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { openFlashImage } from "@neuron-chunking/weight-store";
import type { BundleInfo, FlashImage } from "@neuron-chunking/weight-store";
import { calibrationFor, calibrationPath, readCalibration } from "../src/calibration/store.js";
import {
  bytesOfImportance,
  importanceOfBytes,
  typicalImportance,
  TypicalInputs,
} from "../src/calibration/typical-inputs.js";
import type { MeasuredCalibration } from "../src/calibration/typical-inputs.js";
import { VlmExecutor, writeTogether } from "../src/index.js";
import type { OpenOptions, StepTrace } from "../src/index.js";
import { selectionSettings } from "../src/selection/settings.js";
import { priceOfSparsity } from "../src/selection/sparsity-price.js";
import { Images } from "./support/images.js";
import { code } from "./support/sessions.js";

const MODEL = "qwen2-tied-f32";
const SEED = Number(process.env["FC_SEED"] ?? Date.now() % 2 ** 31);
console.log(`fast-check seed ${SEED}`);
const PROMPTS = [0, 1, 2, 3].map((seed) => ({
  tokenIds: Array.from({ length: 20 }, (_, i) => 5 + ((i * 37 + seed * 91) % 300)),
}));
/** 1000 ns for each read and 1 ns for each byte: even tiny matrices are worth reading in part. */
const SIZES = Array.from({ length: 64 }, (_, i) => 64 * (i + 1));
const FINE: DeviceProfile = {
  ...simulatedDevice("nvme-gen4"),
  name: "fine",
  table: { sizesBytes: SIZES, latencyNs: SIZES.map((size) => 100 + size) },
  saturationBytes: 4096,
  tailNsPerByte: 1 + 100 / 4096,
};

let images: Images;
let dir: string;
let calibration: MeasuredCalibration;
beforeAll(async () => {
  images = await Images.create();
  dir = await images.get(MODEL);
  calibration = await measured(dir);
});
afterAll(() => images.remove());

async function measured(image: string, prompts = PROMPTS): Promise<MeasuredCalibration> {
  const executor = await VlmExecutor.open(image, { blockTokens: 8 });
  try {
    return await executor.measure(prompts);
  } finally {
    await executor.close();
  }
}

/** Traces of prompts like those of the calibration, and of some tokens after each. */
async function steps(options: OpenOptions, image = dir): Promise<StepTrace[]> {
  const executor = await VlmExecutor.open(image, { profile: FINE, policy: "lagrange", ...options });
  try {
    const all: StepTrace[] = [];
    for (const { tokenIds } of PROMPTS) {
      const session = executor.createSession({ onStep: (step) => all.push(step) });
      await session.appendTokens(tokenIds);
      const tokens = session.generate({ maxNewTokens: 6, stopTokenIds: [] });
      for await (const token of tokens) void token;
    }
    return all;
  } finally {
    await executor.close();
  }
}

const sumOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
const readNs = (all: readonly StepTrace[]) =>
  sumOf(all.map((step) => sumOf(step.projections.map((one) => one.estimatedReadNs))));
const without = ({ inputs, ...rest }: MeasuredCalibration): MeasuredCalibration => {
  void inputs;
  return rest;
};

describe("inputs that a calibration keeps", () => {
  it("are within 2.4 % of what they were, relative to the largest, zeros zeros", () => {
    const values = fc.array(
      fc.oneof(fc.constant(0), fc.double({ min: 1e-3, max: 50, noNaN: true })),
      {
        minLength: 1,
        maxLength: 60,
      },
    );
    fc.assert(
      fc.property(values, (list) => {
        const importance = Float32Array.from(list);
        const largest = Math.max(...importance);
        const back = importanceOfBytes(bytesOfImportance(importance));
        for (const [row, value] of importance.entries()) {
          if (value === 0) expect(back[row]).toBe(0);
          else expect(Math.abs(back[row] / (value / largest) - 1)).toBeLessThan(0.024);
        }
      }),
      { seed: SEED },
    );
  });

  it("are one of each kind for each matrix, of any prompt", () => {
    const kept = new Set<string>();
    const typical = new TypicalInputs();
    for (let prompt = 0; prompt < 8; prompt++) {
      for (let m = 0; m < 64; m++)
        typical.offer(`m${m}`, "token", Float32Array.of(1, 0.5 ** prompt), prompt);
    }
    for (let m = 0; m < 64; m++) {
      const input = typical.of(`m${m}`)!;
      expect(input.block).toBeUndefined();
      kept.add(input.token);
    }
    expect(kept.size).toBe(8);
    expect(typical.of("absent")).toBeUndefined();
  });

  it("are those of the calibration's passes, and stand in its file", async () => {
    expect(calibration.inputs!.map(({ name }) => name)).toEqual(
      calibration.bundles.map(({ name }) => name),
    );
    const alone = await Promise.all(
      PROMPTS.map(async (prompt) => (await measured(dir, [prompt])).inputs!),
    );
    const prompts = calibration.inputs!.map(({ token }, i) =>
      alone.findIndex((inputs) => inputs[i].token === token),
    );
    expect(Math.min(...prompts)).toBeGreaterThanOrEqual(0);
    // Not all of one prompt.
    expect(new Set(prompts).size).toBeGreaterThan(1);
  });

  it("come in the order that rows are stored in", () => {
    const input = { name: "m", token: Buffer.from([255, 1, 0, 128]).toString("base64") };
    const info = { rows: 4, storedOrder: Uint32Array.of(2, 0, 3, 1) } as unknown as BundleInfo;
    const plain = importanceOfBytes(Uint8Array.of(255, 1, 0, 128));
    expect(typicalImportance(info, input, "block")).toEqual(
      Float32Array.of(plain[2], plain[0], plain[3], plain[1]),
    );
    expect(typicalImportance({ ...info, rows: 5 }, input, "token")).toBeUndefined();
  });
});

describe("the price of a sparsity", () => {
  it("takes the read time of equal importance, to within a run of rows", () => {
    const table = new LatencyTable(FINE);
    const sizes = fc.array(fc.integer({ min: 64, max: 300 }), { minLength: 8, maxLength: 16 });
    const sparsities = fc.double({ min: 0.1, max: 0.8, noNaN: true });
    fc.assert(
      fc.property(sizes, sparsities, fc.integer(), (rows, sparsity, seed) => {
        let state = seed >>> 0;
        const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
        const matrices = rows.map((count) => ({
          info: { rows: count, rowBytes: 256 },
          weight: 0.2 + random(),
          importance: Float32Array.from({ length: count }, () => random() ** 3),
        }));
        const price = priceOfSparsity(matrices, sparsity, table);
        const selector = createSelector("lagrange", { maxRows: 300 });
        let [equalNs, pricedNs] = [0, 0];
        for (const { info, weight, importance } of matrices) {
          const request = { importance, ...info, table };
          selector.select({
            ...request,
            matchTopkRows: budgetRows(info.rows, sparsity),
            effort: "quick",
          });
          equalNs += selector.solution.latencyNs;
          const total = importance.reduce((sum, value) => sum + value, 0);
          selector.select({ ...request, pricePerNs: (price * total) / weight });
          pricedNs += selector.solution.latencyNs;
        }
        expect(pricedNs).toBeGreaterThanOrEqual(equalNs * (1 - 1e-9));
        expect(pricedNs / equalNs).toBeLessThan(1.1);
      }),
      { seed: SEED, numRuns: 60 },
    );
  });

  it("rises with the sparsity, and does not depend on the scale of inputs", () => {
    const table = new LatencyTable(FINE);
    const matrices = (scale: number) =>
      [3, 5, 7].map((step) => ({
        info: { rows: 200, rowBytes: 256 },
        weight: 1 / step,
        importance: Float32Array.from({ length: 200 }, (_, i) => scale * ((i * step) % 31) ** 2),
      }));
    const prices = [0.2, 0.4, 0.6, 0.8].map((sparsity) =>
      priceOfSparsity(matrices(1), sparsity, table),
    );
    expect(prices).toEqual([...prices].sort((a, b) => a - b));
    expect(new Set(prices).size).toBe(4);
    expect(priceOfSparsity(matrices(64), 0.4, table) / prices[1]).toBeCloseTo(1, 2);
  });

  it("is finite where inputs are zeros or a matrix is as fast to read whole", () => {
    const table = new LatencyTable(FINE);
    const info = { rows: 50, rowBytes: 256 };
    const zeros = { info, weight: 1, importance: new Float32Array(50) };
    const even = { info, weight: 1, importance: new Float32Array(50).fill(1) };
    for (const matrices of [[zeros], [even], [zeros, even]]) {
      expect(priceOfSparsity(matrices, 0.5, table)).toBeGreaterThan(0);
      expect(priceOfSparsity(matrices, 0.5, table)).toBeLessThan(Infinity);
    }
  });
});

describe("a model with a calibration", () => {
  it("runs at one price for each kind of pass, the same in each, at about the read time of equal importance", async () => {
    const equal = await steps({ sparsity: 0.5, balance: "equal-importance", calibration });
    const priced = await steps({ sparsity: 0.5, calibration });
    expect(equal.every(({ pricePerNs }) => pricePerNs === undefined)).toBe(true);
    for (const phase of ["prefill", "decode"]) {
      const of = (all: readonly StepTrace[]) => all.filter((step) => step.phase === phase);
      expect(new Set(of(priced).map(({ pricePerNs }) => pricePerNs)).size).toBe(1);
      expect(of(priced)[0].pricePerNs).toBeGreaterThan(0);
      const ratio = readNs(of(priced)) / of(priced).length / (readNs(of(equal)) / of(equal).length);
      console.log(`${phase}: read time over that of equal importance ${ratio.toFixed(3)}`);
      expect(ratio).toBeGreaterThan(0.75);
      expect(ratio).toBeLessThan(1.25);
      const error = (all: readonly StepTrace[]) =>
        sumOf(of(all).map(({ estimatedError }) => estimatedError!)) / of(all).length;
      expect(error(priced)).toBeLessThan(error(equal));
    }
  });

  it("reads the same whatever came before, and however its rows are stored", async () => {
    const executor = await VlmExecutor.open(dir, {
      profile: FINE,
      policy: "lagrange",
      sparsity: 0.5,
      calibration,
    });
    const ask = async () => {
      const all: StepTrace[] = [];
      const session = executor.createSession({ onStep: (step) => all.push(step) });
      await session.appendTokens(PROMPTS[1].tokenIds);
      return all[0].projections.map(({ rows }) => rows);
    };
    const before = await ask();
    await executor.logits(PROMPTS[2]);
    expect(await ask()).toEqual(before);
    await executor.close();
    const permutations = Object.fromEntries(
      calibration.bundles.map(({ name, activeCounts }) => [name, hotColdPermutation(activeCounts)]),
    );
    const reordered = await images.get(MODEL, { permutations }, "-hot-first-price");
    const [step] = await steps({ sparsity: 0.5, calibration }, reordered);
    expect(step.pricePerNs).toBeGreaterThan(0);
    expect(step.accuracy).toBe("lossy");
  });

  it("stays exact at a sparsity of 0", async () => {
    const all = await steps({ sparsity: 0, calibration });
    expect(all.every(({ accuracy }) => accuracy === "exact")).toBe(true);
  });
});

describe("what decides", () => {
  const priceOf = (options: OpenOptions) => selectionSettings(options).price?.kind;

  it("is one price with a calibration, equal importance without or where it is asked for", () => {
    const lagrange = { policy: "lagrange", calibration } as const;
    expect(priceOf(lagrange)).toBe("sparsity");
    expect(priceOf({ ...lagrange, sparsity: 0.3, balance: "one-price" })).toBe("sparsity");
    expect(priceOf({ ...lagrange, pricePerNs: 1 })).toBe("fixed");
    for (const options of [
      { policy: "lagrange" },
      { ...lagrange, balance: "equal-importance" },
      { ...lagrange, sparsity: 0 },
      { ...lagrange, sparsities: { "layers.0.attn_in": 0.5 } },
      { ...lagrange, calibration: without(calibration) },
      { ...lagrange, calibration: { ...calibration, inputs: [] } },
      { policy: "topk", calibration },
      { policy: "dense", calibration },
    ] as OpenOptions[]) {
      expect(priceOf(options)).toBeUndefined();
    }
  });

  it.each([
    ["INVALID_OPTION", { policy: "topk", balance: "one-price" }],
    ["INVALID_OPTION", { balance: "one-price", latencyTargetNs: 1e6 }],
    ["INVALID_OPTION", { balance: "equal-importance", pricePerNs: 1 }],
    ["INVALID_OPTION", { balance: "one-price", sparsities: {} }],
    ["INVALID_OPTION", { balance: "other" as "one-price" }],
    ["CALIBRATION_MISSING", { balance: "one-price", calibration: undefined }],
  ])("refuses with %s: %j", (expected, options) => {
    const given = { policy: "lagrange", calibration, ...options } as OpenOptions;
    expect(() => selectionSettings(given)).toThrow(
      expect.objectContaining({ code: expected }) as Error,
    );
  });

  it("says how to get a calibration with inputs, and refuses one of other rows", async () => {
    const old = {
      policy: "lagrange",
      balance: "one-price",
      calibration: without(calibration),
    } as const;
    expect(() => selectionSettings(old)).toThrow(/nchunk calibrate/);
    const inputs = calibration.inputs!.map((input) => ({ ...input, token: "AAAA", block: "AAAA" }));
    const open = VlmExecutor.open(dir, {
      policy: "lagrange",
      calibration: { ...calibration, inputs },
    });
    expect(await code(open)).toBe("CALIBRATION_MISMATCH");
  });
});

describe("the image's own calibration", () => {
  const lagrange = { policy: "lagrange" } as const;
  let image: FlashImage;
  let path: string;
  beforeAll(async () => {
    image = await openFlashImage(await images.get(MODEL, {}, "-own-calibration"));
    path = calibrationPath(image.dir);
  });
  afterAll(() => image.close());

  it("is looked for where one price may rule, and missed where it must", async () => {
    expect(await calibrationFor(image, lagrange)).toBeUndefined();
    for (const options of [{ balance: "one-price" }, { qualityTarget: 1 }] as const) {
      const missing = calibrationFor(image, { ...lagrange, ...options });
      expect(await code(missing)).toBe("CALIBRATION_MISSING");
    }
    await writeTogether([{ path, content: calibration }]);
    expect(await calibrationFor(image, lagrange)).toEqual(calibration);
    expect(await readCalibration(path)).toEqual(calibration);
    for (const options of [
      { policy: "topk" },
      { ...lagrange, balance: "equal-importance" },
      { ...lagrange, sparsity: 0 },
      { ...lagrange, sparsities: {} },
    ] as OpenOptions[]) {
      expect(await calibrationFor(image, options)).toBeUndefined();
    }
    expect(await calibrationFor(image, { policy: "topk", calibration })).toBe(calibration);
  });

  it("is an error where it is needed and damaged or another model's, else as if it were not there", async () => {
    const other = { ...calibration, model: { ...calibration.model, identity: "0".repeat(64) } };
    for (const [text, expected] of [
      ["{", "CALIBRATION_INVALID"],
      [JSON.stringify(other), "CALIBRATION_MISMATCH"],
    ]) {
      await writeFile(path, text);
      expect(await calibrationFor(image, lagrange)).toBeUndefined();
      const needed = calibrationFor(image, { ...lagrange, balance: "one-price" });
      expect(await code(needed)).toBe(expected);
    }
    const given = calibrationFor(image, { ...lagrange, calibration: other });
    expect(await code(given)).toBe("CALIBRATION_MISMATCH");
  });

  it("does without inputs that are not whole", async () => {
    await writeTogether([{ path, content: { ...calibration, inputs: [{ name: "m" }] } }]);
    expect(await readCalibration(path)).toEqual(without(calibration));
  });
});
