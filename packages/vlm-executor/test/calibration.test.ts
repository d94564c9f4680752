/** What calibration measures, and what it refuses. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hotColdPermutation, weightOf } from "@neuron-chunking/chunk-selector";
import type { Calibration } from "@neuron-chunking/chunk-selector";
import { openFlashImage } from "@neuron-chunking/weight-store";
import {
  calibrationPath,
  readAllocations,
  readCalibration,
  VlmExecutor,
  writeTogether,
} from "../src/index.js";
import type { MeasureOptions } from "../src/index.js";
import { Images } from "./support/images.js";
import { code } from "./support/sessions.js";

const MODEL = "qwen2-tied-f32";
const PROMPTS = [0, 1, 2].map((seed) => ({
  tokenIds: Array.from({ length: 11 + 5 * seed }, (_, i) => 5 + ((i * 37 + seed * 91) % 300)),
}));

let images: Images;
let folder: string;
let calibration: Calibration;
beforeAll(async () => {
  images = await Images.create();
  folder = await mkdtemp(join(tmpdir(), "nchunk-calibration-"));
  calibration = await measure(MODEL);
});
afterAll(async () => {
  await images.remove();
  await rm(folder, { recursive: true, force: true });
});

async function measure(
  name: string,
  options: MeasureOptions = {},
  policy: "dense" | "topk" = "dense",
): Promise<Calibration> {
  const executor = await VlmExecutor.open(await images.get(name), { blockTokens: 4, policy });
  try {
    return await executor.measure(PROMPTS, options);
  } finally {
    await executor.close();
  }
}

describe("what is measured", () => {
  it("is the same twice, and whatever the policy of the model", async () => {
    expect(await measure(MODEL)).toEqual(calibration);
    expect(await measure(MODEL, {}, "topk")).toEqual(calibration);
  });

  it("covers every stored matrix, with a weight that its points explain", async () => {
    const image = await openFlashImage(await images.get(MODEL));
    expect(calibration.bundles.map(({ name }) => name)).toEqual(
      image.bundles.map(({ name }) => name),
    );
    await image.close();
    for (const {
      weight,
      weightPerImportance,
      importance,
      points,
      activeCounts,
      ...rest
    } of calibration.bundles) {
      expect(weight).toBeGreaterThan(1e-4);
      expect(weight).toBe(weightOf(points));
      expect(weightPerImportance / (weight / importance.total)).toBeCloseTo(1, 4);
      const lost = points.map(({ lostShare }) => lostShare);
      expect(lost).toEqual([...lost].sort((a, b) => a - b));
      expect(lost.at(-1)).toBe(1);
      // The least important rows are left out: a share of rows holds less than that share of importance.
      for (const { sparsity, lostShare } of points) expect(lostShare).toBeLessThanOrEqual(sparsity);
      expect(activeCounts).toHaveLength(rest.rows);
      const active = activeCounts.reduce((sum, count) => sum + count, 0);
      expect(active).toBe(rest.samples * Math.ceil(rest.rows / 2));
      expect(importance.cv).toBeGreaterThan(0);
    }
  });

  it("counts prompts, passes and tokens: blocks, and each last token alone", () => {
    const blocks = PROMPTS.map(({ tokenIds }) => Math.ceil((tokenIds.length - 1) / 4) + 1);
    expect(calibration.source).toEqual({
      prompts: PROMPTS.length,
      passes: blocks.reduce((sum, count) => sum + count, 0),
      measuredPasses: 2 * PROMPTS.length,
      tokens: PROMPTS.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0),
    });
  });

  it("leaves the passes themselves dense: statistics are those of a run that measures nothing", async () => {
    const executor = await VlmExecutor.open(await images.get(MODEL), { blockTokens: 4 });
    const orders = await executor.calibrate(PROMPTS);
    await executor.close();
    for (const { name, activeCounts } of calibration.bundles) {
      expect(hotColdPermutation(activeCounts)).toEqual(orders[name]);
    }
    const oneLevel = await measure(MODEL, { levels: [0.5] });
    for (const [i, { importance, activeCounts }] of oneLevel.bundles.entries()) {
      expect(importance).toEqual(calibration.bundles[i].importance);
      expect(activeCounts).toEqual(calibration.bundles[i].activeCounts);
    }
  });

  it("finds no error where no row is left out, and the same where the MLP is gone either way", async () => {
    // Less than half a row of any matrix here.
    const { bundles } = await measure(MODEL, { levels: [1e-4, 1] });
    for (const { points } of bundles) {
      expect(points[0]).toEqual({ sparsity: 1e-4, lostShare: 0, error: 0 });
      expect(points[1].lostShare).toBe(1);
      expect(points[1].error).toBeGreaterThan(0);
    }
    const without = (kind: string) =>
      bundles.filter(({ name }) => name.endsWith(kind)).map(({ points }) => points[1].error);
    for (const [layer, error] of without("mlp_in").entries()) {
      expect(error / without("mlp_out")[layer]).toBeCloseTo(1, 5);
    }
  });

  it("does not depend on the order of rows, nor its model's identity on how they are stored", async () => {
    const order = Object.fromEntries(
      calibration.bundles.map(({ name, activeCounts }) => [name, hotColdPermutation(activeCounts)]),
    );
    const dir = await images.get(MODEL, { permutations: order }, "-hot-first");
    const executor = await VlmExecutor.open(dir, { blockTokens: 4, calibration });
    const again = await executor.measure(PROMPTS);
    await executor.close();
    expect(again.model).toEqual(calibration.model);
    for (const [i, { weight, activeCounts }] of again.bundles.entries()) {
      expect(weight / calibration.bundles[i].weight).toBeCloseTo(1, 2);
      expect(activeCounts).toEqual(calibration.bundles[i].activeCounts);
    }
    const unbundled = await VlmExecutor.open(
      await images.get(MODEL, { bundled: false }, "-unbundled"),
      { blockTokens: 4 },
    );
    const single = await unbundled.measure(PROMPTS);
    await unbundled.close();
    expect(single.model).toEqual({ ...calibration.model, bundled: false });
    // q and k see the same input as the bundle they are part of.
    expect(single.bundles.find(({ name }) => name === "layers.1.k")?.activeCounts).toEqual(
      calibration.bundles.find(({ name }) => name === "layers.1.attn_in")?.activeCounts,
    );
  });

  it("ends when aborted, and leaves the executor usable", async () => {
    const executor = await VlmExecutor.open(await images.get(MODEL), { blockTokens: 4 });
    const controller = new AbortController();
    const onProgress = () => controller.abort();
    const { signal } = controller;
    expect(await code(executor.measure(PROMPTS, { signal, onProgress }))).toBe("ABORTED");
    expect((await executor.measure(PROMPTS)).bundles).toEqual(calibration.bundles);
    expect(await code(executor.measure([]))).toBe("EMPTY_PROMPT");
    for (const levels of [[], [0], [0.5, 0.5], [0.5, 0.2], [1.5], [NaN]]) {
      expect(await code(executor.measure(PROMPTS, { levels }))).toBe("INVALID_OPTION");
    }
    await executor.close();
  });
});

describe("files", () => {
  it("are written and read back, and found in the image", async () => {
    const path = join(folder, "a.json");
    await writeTogether([{ path, content: calibration }]);
    expect(await readCalibration(path)).toEqual(calibration);
    const dir = await images.get(MODEL, {}, "-with-calibration");
    await writeTogether([{ path: calibrationPath(dir), content: calibration }]);
    const executor = await VlmExecutor.open(dir, { policy: "lagrange", pricePerNs: 1e-6 });
    await executor.close();
  });

  it("leave nothing behind when one of them cannot be written", async () => {
    const dir = await mkdtemp(join(folder, "together-"));
    const files = [
      { path: join(dir, "first.json"), content: calibration },
      { path: join(dir, "absent", "second.json"), content: calibration },
    ];
    await expect(writeTogether(files)).rejects.toMatchObject({ code: "ENOENT" });
    expect(await readdir(dir)).toEqual([]);
  });

  it("stay as they were when new ones cannot be written", async () => {
    const dir = await mkdtemp(join(folder, "kept-"));
    await writeFile(join(dir, "first.json"), "old");
    const files = [
      { path: join(dir, "first.json"), content: calibration },
      { path: join(dir, "absent", "second.json"), content: calibration },
    ];
    await expect(writeTogether(files)).rejects.toThrow();
    expect(await readFile(join(dir, "first.json"), "utf8")).toBe("old");
  });

  it("are refused by name of what is wrong", async () => {
    const path = join(folder, "broken.json");
    await writeFile(path, JSON.stringify({ ...calibration, bundles: [{}] }));
    await expect(readCalibration(path)).rejects.toMatchObject({
      code: "CALIBRATION_INVALID",
      path,
      message: expect.stringContaining("calibration.bundles[0].") as string,
    });
    await expect(readAllocations(path)).rejects.toMatchObject({ code: "CALIBRATION_INVALID" });
    await expect(readCalibration(join(folder, "absent.json"))).rejects.toMatchObject({
      code: "CALIBRATION_MISSING",
      message: expect.stringContaining("nchunk calibrate") as string,
    });
  });

  it("are refused for another checkpoint, and for another layout", async () => {
    const lagrange = { policy: "lagrange", pricePerNs: 1e-6, calibration } as const;
    const others = [
      await images.get("qwen2-tied-bf16"),
      await images.get("llama-untied-f32"),
      await images.get(MODEL, { bundled: false }, "-unbundled"),
    ];
    for (const dir of others) {
      expect(await code(VlmExecutor.open(dir, lagrange))).toBe("CALIBRATION_MISMATCH");
    }
    const sparsities = { "layers.0.attn_in": 0.5 };
    const some = VlmExecutor.open(await images.get(MODEL), { policy: "topk", sparsities });
    expect(await code(some)).toBe("CALIBRATION_MISMATCH");
  });
});
