/** A quantised image runs as a dense model of the weights that it stores, to rounding. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readManifest } from "@neuron-chunking/weight-store";
import type { ImageOptions } from "@neuron-chunking/weight-store";
import { CpuBackend } from "../src/backend/cpu-backend.js";
import { VlmExecutor } from "../src/index.js";
import type { OpenOptions } from "../src/index.js";
import { requireRowDtypes, weightFormats } from "../src/weight-dtype.js";
import { dequantisedCheckpoint } from "./support/dequantised.js";
import { modelPath, picturePath } from "./support/goldens.js";
import { Images, relativeError } from "./support/images.js";

/** Products and sums in another order: differences of f32 rounding only. */
const ROUNDING = 1e-5;
const TOKEN_IDS = Array.from({ length: 40 }, (_, i) => 5 + ((i * 37) % 300));
const FORMATS = (["int8", "int4"] as const).flatMap((dtype) =>
  ([32, 64] as const).map((groupSize) => ({ dtype, groupSize })),
);

let images: Images;
beforeAll(async () => {
  images = await Images.create();
});
afterAll(() => images.remove());

async function logits(dir: string, options: OpenOptions = {}): Promise<Float32Array> {
  const executor = await VlmExecutor.open(dir, options);
  try {
    return (await executor.logits({ tokenIds: TOKEN_IDS })).logits[0];
  } finally {
    await executor.close();
  }
}

/** The image of a format, and the one of the f32 weights that it stores, in the checkpoint's order. */
async function pair(
  model: string,
  format: (typeof FORMATS)[number],
  layout: Pick<ImageOptions, "bundled" | "permutations"> = {},
): Promise<[string, string]> {
  const suffix = ["", format.dtype, format.groupSize, ...Object.keys(layout)].join("-");
  const quantised = await images.get(model, { ...format, ...layout }, suffix);
  const checkpoint = images.path(`${model}${suffix}-dequantised`);
  await dequantisedCheckpoint(modelPath(model), quantised, checkpoint);
  return [quantised, await images.get(checkpoint, {}, "-image")];
}

/** [stored row] = channel: the last first, for every matrix. */
async function reversed(dir: string): Promise<Record<string, Uint32Array>> {
  const { bundles } = (await readManifest(dir)).flash;
  return Object.fromEntries(
    bundles.map(({ name, rows }) => [
      name,
      Uint32Array.from({ length: rows }, (_, i) => rows - 1 - i),
    ]),
  );
}

describe.each(["llama-untied-f32", "llama-rope3-f16", "qwen2-tied-bf16"])("%s", (model) => {
  it.each(FORMATS)("as $dtype in groups of $groupSize", async (format) => {
    const [quantised, stored] = await pair(model, format);
    const expected = await logits(stored);
    expect(relativeError(await logits(quantised), expected)).toBeLessThan(ROUNDING);
    // In small pieces, and token by token.
    const small = await logits(quantised, { landingBytes: 4096, blockTokens: 1 });
    expect(relativeError(small, expected)).toBeLessThan(ROUNDING);
    // It is another model than the checkpoint: the comparison above can tell.
    expect(relativeError(await logits(await images.get(model)), expected)).toBeGreaterThan(1e-3);
  });

  it("unbundled, and reordered, where groups hold other columns", async () => {
    const format = { dtype: "int4", groupSize: 32 } as const;
    const permutations = await reversed(await images.get(model));
    for (const layout of [{ bundled: false }, { permutations }]) {
      const [quantised, stored] = await pair(model, format, layout);
      expect(relativeError(await logits(quantised), await logits(stored))).toBeLessThan(ROUNDING);
    }
  });
});

it("keeps quantised rows in memory where a budget leaves room, to the same result", async () => {
  const format = { dtype: "int4", groupSize: 64 } as const;
  const [quantised, stored] = await pair("llama-untied-f32", format);
  const executor = await VlmExecutor.open(quantised, { memoryBudgetBytes: 2 ** 31 });
  try {
    expect(executor.plan().prefix.bundles.length).toBeGreaterThan(0);
    const { logits: rows, accuracy } = await executor.logits({ tokenIds: TOKEN_IDS });
    expect(relativeError(rows[0], await logits(stored))).toBeLessThan(ROUNDING);
    // Of the rows there are; what they are is said beside it.
    expect(accuracy).toBe("exact");
    expect(executor.weightFormats).toEqual([format]);
  } finally {
    await executor.close();
  }
});

it("answers about a picture as the model of the stored weights does", async () => {
  const answers = [];
  for (const dir of await pair("llava-tied-f32", { dtype: "int4", groupSize: 32 })) {
    const executor = await VlmExecutor.open(dir);
    const request = { prompt: "What is it?", images: [picturePath("wide-150x50.png")] };
    const answer = await executor.ask({ ...request, maxNewTokens: 6 }).answer();
    answers.push([answer.tokenIds, answer.accuracy]);
    await executor.close();
  }
  expect(answers[0]).toEqual(answers[1]);
});

describe("a backend without kernels for quantised rows", () => {
  it("refuses the image before anything runs, and says what to do", async () => {
    const dir = await images.get("llama-untied-f32", { dtype: "int4" }, "-refused");
    const backend = new CpuBackend();
    expect(backend.rowDtypes).toEqual(["f32", "bf16", "f16", "int8", "int4"]);
    Object.defineProperty(backend, "rowDtypes", { value: ["f32", "bf16", "f16"] });
    await expect(VlmExecutor.open(dir, { backend })).rejects.toMatchObject({
      code: "KERNELS_UNAVAILABLE",
      bundle: "layers.0.attn_in",
      expected: ["f32", "bf16", "f16"],
      got: "int4",
      message: expect.stringContaining("Update @neuron-chunking/kernels-addon") as string,
    });
    const plain = await images.get("llama-untied-f32");
    await (await VlmExecutor.open(plain, { backend })).close();
  });

  it("is told apart from the formats there are", () => {
    const [f32, int8] = [{ dtype: "f32" }, { dtype: "int8", groupSize: 64 }] as const;
    expect(weightFormats([f32, int8, f32, int8])).toEqual([f32, int8]);
  });

  it("is asked for every bundle", () => {
    const [f32, int8] = (["f32", "int8"] as const).map((dtype) => ({ name: dtype, dtype }));
    const backend = { description: "old", rowDtypes: ["f32"] as const };
    expect(() => requireRowDtypes([f32], backend)).not.toThrow();
    expect(() => requireRowDtypes([f32, int8], backend)).toThrow("int8 is stored as int8");
  });
});
