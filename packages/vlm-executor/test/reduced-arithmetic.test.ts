/** Reduced arithmetic stays within what the reference's own low-precision run deviates by, and is never called exact. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CpuBackend } from "../src/backend/cpu-backend.js";
import { kernels } from "../src/binding.js";
import { VlmExecutor } from "../src/index.js";
import type { OpenOptions } from "../src/index.js";
import { promptOf, readGolden, readGoldenTensors } from "./support/goldens.js";
import type { ModelGolden } from "./support/goldens.js";
import { Images, relativeError } from "./support/images.js";
import { code } from "./support/sessions.js";

const MODELS = ["qwen2-tied-bf16", "llama-headdim-bf16", "llava-tied-bf16", "llava-untied-bf16"];
/** Products of fewer tokens are not rounded, unless rows are int4. */
const MANY_TOKENS = 6;

let images: Images;
beforeAll(async () => {
  images = await Images.create();
});
afterAll(() => images.remove());

/** What this machine rounds for weights that are not int4. */
const roundsHere = kernels.features().reduced.filter((name) => name !== "int8-dot");

async function open<T>(
  dir: string,
  options: OpenOptions,
  use: (executor: VlmExecutor) => Promise<T>,
): Promise<T> {
  const executor = await VlmExecutor.open(dir, options);
  try {
    return await use(executor);
  } finally {
    await executor.close();
  }
}

describe.each(MODELS)("%s", (model) => {
  const tensors = readGoldenTensors(model);
  const { cases } = readGolden<ModelGolden>(model);
  /** How far the reference in bf16 is from its own f32, at most. */
  const deviation = Math.max(...cases.map(({ logits }) => logits.lowPrecisionDeviation ?? 0));

  it.each(cases.map((c) => [c.name, c] as const))("%s", async (_name, c) => {
    const dir = await images.get(model);
    const run = (options: OpenOptions) =>
      open(dir, options, async (executor) => {
        const prompt = await executor.prepare(promptOf(c));
        const result = await executor.logits({ ...prompt, all: true });
        return { ...result, rounding: executor.rounding };
      });
    const [exact, reduced] = [await run({}), await run({ arithmetic: "reduced" })];
    expect(exact).toMatchObject({ rounding: [], accuracy: "exact" });
    expect(reduced.rounding).toEqual(roundsHere);
    expect(reduced.accuracy).toBe(roundsHere.length > 0 ? "lossy" : "exact");
    const { values, shape } = tensors.get(c.logits.tensor)!;
    const got = new Float32Array(shape[0] * shape[1]);
    for (let p = 0; p < shape[0]; p++) {
      got.set(reduced.logits[c.logits.firstPosition + p], p * shape[1]);
    }
    expect(relativeError(got, values)).toBeLessThan(deviation);
    const isRounded = roundsHere.length > 0 && c.inputIds.length >= MANY_TOKENS;
    const isDifferent = reduced.logits.some((row, i) => relativeError(row, exact.logits[i]) > 0);
    expect(isDifferent).toBe(isRounded);
  });
});

it.each(["int8", "int4"] as const)("says what is rounded for rows of %s", async (dtype) => {
  const dir = await images.get("qwen2-tied-bf16", { dtype }, `-${dtype}`);
  const rounding = await open(dir, { arithmetic: "reduced" }, (executor) =>
    Promise.resolve(executor.rounding),
  );
  expect(rounding).toEqual(dtype === "int4" ? kernels.features().reduced : roundsHere);
});

it("is refused where it cannot be had", async () => {
  const dir = await images.get("qwen2-tied-bf16");
  const refused = (options: object) => code(VlmExecutor.open(dir, options));
  expect(await refused({ arithmetic: "f8" })).toBe("INVALID_OPTION");
  const backend = new CpuBackend();
  expect(await refused({ arithmetic: "reduced", backend })).toBe("INVALID_OPTION");
});
