/**
 * Parity with Hugging Face transformers on tiny models of every family. The goldens' version and seeds are in
 * their files; `tools/reference` makes them.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VlmExecutor } from "../src/index.js";
import { loadTokenizer } from "../src/inputs/index.js";
import { encodePixels } from "../src/model.js";
import { modelPath, promptOf, readGolden, readGoldenTensors } from "./support/goldens.js";
import type { GoldenCase, GoldenTensor, ModelGolden } from "./support/goldens.js";
import { Images, openInsides, relativeError } from "./support/images.js";

/** [checkpoint, golden]: the same weights under the names of other transformers releases share a golden. */
const MODELS: readonly (readonly [string, string])[] = [
  ["qwen2-tied-f32", "qwen2-tied-f32"],
  ["qwen2-tied-bf16", "qwen2-tied-bf16"],
  ["llama-untied-f32", "llama-untied-f32"],
  ["llama-headdim-bf16", "llama-headdim-bf16"],
  ["llama-rope3-f16", "llama-rope3-f16"],
  ["llava-tied-f32", "llava-tied-f32"],
  ["llava-tied-bf16", "llava-tied-bf16"],
  ["llava-untied-bf16", "llava-untied-bf16"],
  ["llava-4x-sharded-bf16", "llava-tied-bf16"],
  ["llava-nested-bf16", "llava-tied-bf16"],
];
/** The reference's logits are computed in f32 from the stored weights, and so are ours. */
const LOGITS_TOLERANCE = 1e-4;
/** Added to the distance that the reference's arithmetic in bf16 or f16 has from its own in f32. */
const LOW_PRECISION_MARGIN = 1e-3;

let images: Images;
beforeAll(async () => {
  images = await Images.create();
});
afterAll(() => images.remove());

/** Logits of the golden's positions side by side. */
function logitsOf(rows: readonly Float32Array[], c: GoldenCase, shape: readonly number[]) {
  const [positions, vocabulary] = shape;
  const all = new Float32Array(positions * vocabulary);
  for (let p = 0; p < positions; p++) all.set(rows[c.logits.firstPosition + p], p * vocabulary);
  return all;
}

function golden(name: string): ModelGolden & { tensor(key: string): GoldenTensor } {
  const tensors = readGoldenTensors(name);
  const tensor = (key: string): GoldenTensor => {
    const found = tensors.get(key);
    if (found === undefined) throw new Error(`The golden ${name} has no tensor ${key}`);
    return found;
  };
  return { ...readGolden<ModelGolden>(name), tensor };
}

describe.each(MODELS)("%s", (checkpoint, goldenName) => {
  const { cases, tensor } = golden(goldenName);
  let executor: VlmExecutor;
  beforeAll(async () => {
    executor = await VlmExecutor.open(await images.get(checkpoint));
  });
  afterAll(() => executor.close());

  it.each(cases.map((c) => [c.name, c] as const))("%s: logits", async (_name, c) => {
    const prompt = await executor.prepare(promptOf(c));
    expect([...prompt.tokenIds]).toEqual(c.inputIds);
    const { logits, accuracy } = await executor.logits({ ...prompt, all: true });
    expect(accuracy).toBe("exact");
    const expected = tensor(c.logits.tensor);
    const got = logitsOf(logits, c, expected.shape);
    expect(relativeError(got, expected.values)).toBeLessThan(LOGITS_TOLERANCE);
    const { lowPrecisionTensor } = c.logits;
    if (lowPrecisionTensor === undefined) return;
    // Not nearer than the reference in f32 can be: its own rounding is the larger part.
    const low = tensor(lowPrecisionTensor).values;
    const own = relativeError(expected.values, low);
    expect(relativeError(got, low)).toBeLessThan(own + LOW_PRECISION_MARGIN);
  });

  const greedy = cases.filter((c) => c.greedy !== undefined);
  it.each(greedy.map((c) => [c.name, c] as const))("%s: 32 greedy tokens", async (_name, c) => {
    const session = executor.createSession();
    await session.appendPrompt(await executor.prepare(promptOf(c)));
    const ids: number[] = [];
    let text = "";
    for await (const token of session.generate({ maxNewTokens: 32, stopTokenIds: [] })) {
      ids.push(token.id);
      text += token.text;
    }
    expect(ids).toEqual(c.greedy!.ids);
    expect(text).toBe((await loadTokenizer(modelPath(checkpoint))).decode(ids));
    expect(session.accuracy).toBe("exact");
    session.close();
  });

  const seeing = cases.filter((c) => c.internals !== undefined);
  it.each(seeing.map((c) => [c.name, c] as const))("%s: tower, projector", async (_name, c) => {
    const { model, close } = await openInsides(await images.get(checkpoint));
    try {
      const prompt = await model.prompting.prepare(promptOf(c));
      const { imageFeatures = [], clipFeatures = [] } = await encodePixels(model, prompt);
      const packed = sideBySide([...imageFeatures, ...clipFeatures]);
      expect(relativeError(packed, tensor(`${c.name}.packed`).values)).toBeLessThan(
        LOGITS_TOLERANCE,
      );
      if (!c.internals!.includes(`${c.name}.projected`)) return;
      const pixels = [...prompt.pictures, ...prompt.clips].map(({ pixelValues }) => pixelValues);
      const { selected, projected } = await model.vision!.inspect(sideBySide(pixels));
      const want = (kind: string) => tensor(`${c.name}.${kind}`).values;
      expect(relativeError(selected, want("visionSelected"))).toBeLessThan(LOGITS_TOLERANCE);
      expect(relativeError(projected, want("projected"))).toBeLessThan(LOGITS_TOLERANCE);
    } finally {
      await close();
    }
  });
});

function sideBySide(arrays: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(arrays.reduce((sum, values) => sum + values.length, 0));
  let at = 0;
  for (const values of arrays) {
    all.set(values, at);
    at += values.length;
  }
  return all;
}
