import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VlmExecutor } from "../src/index.js";
import { picturePath } from "./support/goldens.js";
import { Images } from "./support/images.js";
import { code, collect, ids } from "./support/sessions.js";

const PROMPT = Array.from({ length: 12 }, (_, i) => 10 + i * 7);

let images: Images;
let text: VlmExecutor;
let seeing: VlmExecutor;
beforeAll(async () => {
  images = await Images.create();
  text = await VlmExecutor.open(await images.get("qwen2-tied-f32"));
  seeing = await VlmExecutor.open(await images.get("llava-tied-f32"));
});
afterAll(async () => {
  await text.close();
  await seeing.close();
  await images.remove();
});

describe("ask", () => {
  it("streams an answer and sums it up", async () => {
    const answer = seeing.ask({
      prompt: "What is in the image?",
      images: [picturePath("square-40.png")],
      maxNewTokens: 6,
      stopTokenIds: [],
    });
    const tokens = await collect(answer);
    const result = await answer.answer();
    expect(result.tokenIds).toEqual(ids(tokens));
    expect(result.text).toBe(tokens.map((token) => token.text).join(""));
    expect(result).toMatchObject({ finishReason: "length", accuracy: "exact", policy: "dense" });
    expect(result.totals.prefill.tokens).toBe(result.promptTokens);
    expect(result.totals.decode.tokens).toBe(5);
  });

  it("gives the whole answer without being iterated, and what had come when left early", async () => {
    const request = { prompt: "Why?", maxNewTokens: 6, stopTokenIds: [], chat: false };
    const whole = await text.ask(request).answer();
    expect(whole.tokenIds).toHaveLength(6);
    const early = text.ask(request);
    for await (const token of early) {
      void token;
      break;
    }
    expect((await early.answer()).tokenIds).toEqual(whole.tokenIds.slice(0, 1));
  });

  it("fails for whoever iterates and whoever awaits", async () => {
    const answer = seeing.ask({ prompt: "?", images: [picturePath("absent.png")] });
    expect(await code(collect(answer))).toBe("FILE_NOT_FOUND");
    expect(await code(answer.answer())).toBe("FILE_NOT_FOUND");
  });
});

describe("opening", () => {
  it.each([
    ["sparsity", { policy: "topk", sparsity: 1 }],
    ["sparsity", { policy: "chunk", sparsity: -0.1 }],
    ["threshold", { policy: "threshold" }],
    ["contextLength", { contextLength: 0 }],
    ["blockTokens", { blockTokens: 1.5 }],
    ["landingBytes", { landingBytes: NaN }],
  ] as const)("refuses a %s that makes no sense", async (name, options) => {
    await expect(
      VlmExecutor.open(await images.get("qwen2-tied-f32"), options),
    ).rejects.toMatchObject({
      code: "INVALID_OPTION",
      message: expect.stringContaining(name) as string,
    });
  });

  it("refuses a model beyond the memory budget, saying what it needs", async () => {
    const dir = await images.get("llava-tied-f32");
    const plan = await VlmExecutor.plan(dir);
    expect(plan.totalBytes).toBe(
      plan.processBytes +
        plan.heapBytes +
        plan.residentBytes +
        plan.kvCacheBytes +
        plan.runStateBytes +
        plan.visionStateBytes +
        plan.pictureBytes +
        plan.scratchBytes +
        plan.landingBytes +
        plan.readAheadBytes,
    );
    expect(plan.minimumBytes).toBe(plan.totalBytes - plan.readAheadBytes);
    await expect(
      VlmExecutor.open(dir, { memoryBudgetBytes: plan.minimumBytes - 1 }),
    ).rejects.toMatchObject({ code: "MEMORY_BUDGET_EXCEEDED", expected: plan.minimumBytes });
    const executor = await VlmExecutor.open(dir, { memoryBudgetBytes: plan.minimumBytes });
    expect(executor.plan()).toEqual({
      ...plan,
      readAheadBytes: 0,
      totalBytes: plan.minimumBytes,
    });
    await executor.close();
  });

  it("does not hand out more logits than a budget has room for", async () => {
    const dir = await images.get("qwen2-tied-f32");
    const { minimumBytes } = await VlmExecutor.plan(dir);
    const tokenIds = new Int32Array(Math.ceil(2 ** 21 / 4 / 400) + 1).fill(5);
    const bounded = await VlmExecutor.open(dir, { memoryBudgetBytes: minimumBytes });
    expect(await code(bounded.logits({ tokenIds, all: true }))).toBe("MEMORY_BUDGET_EXCEEDED");
    expect((await bounded.logits({ tokenIds: [5, 6], all: true })).logits).toHaveLength(2);
    await bounded.close();
  });

  it("names an architecture it does not know, and those it does", async () => {
    const dir = images.path("foreign");
    await cp(await images.get("qwen2-tied-f32"), dir, { recursive: true });
    const config = JSON.parse(await readFile(join(dir, "config.json"), "utf8")) as object;
    await writeFile(join(dir, "config.json"), JSON.stringify({ ...config, model_type: "mamba" }));
    await expect(VlmExecutor.open(dir)).rejects.toMatchObject({
      code: "UNSUPPORTED_ARCHITECTURE",
      message: expect.stringMatching(/"mamba".*llava_onevision, qwen2, llama/) as string,
    });
  });

  it("is over once closed", async () => {
    const executor = await VlmExecutor.open(await images.get("qwen2-tied-f32"));
    const session = executor.createSession();
    await executor.close();
    await executor.close();
    expect(() => executor.createSession()).toThrow(/closed/);
    expect(await code(session.appendTokens(PROMPT))).toBe("CLOSED");
  });
});
