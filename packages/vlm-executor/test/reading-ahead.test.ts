/** Reading ahead changes when rows are read, and nothing that comes out. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PolicyName } from "@neuron-chunking/chunk-selector";
import { VlmExecutor } from "../src/index.js";
import type { OpenOptions, StepTrace } from "../src/index.js";
import { Images } from "./support/images.js";

const TOKEN_IDS = Array.from({ length: 40 }, (_, i) => 5 + ((i * 37) % 300));
const FRAMES = 4;

let images: Images;
beforeAll(async () => {
  images = await Images.create();
});
afterAll(() => images.remove());

async function run(dir: string, options: OpenOptions) {
  const executor = await VlmExecutor.open(dir, options);
  try {
    const steps: StepTrace[] = [];
    const session = executor.createSession({ onStep: (step) => steps.push(step) });
    for (let frame = 0; frame < FRAMES; frame++) await session.appendTokens(TOKEN_IDS);
    const logits = Float32Array.from(session.lastLogits!);
    const greedy: number[] = [];
    for await (const { id } of session.generate({ maxNewTokens: 6, stopTokenIds: [] })) {
      greedy.push(id);
    }
    const sum = (field: "bytesAhead" | "bytesAheadUsed" | "bytesWanted") =>
      steps.flatMap((step) => step.projections).reduce((all, p) => all + p[field], 0);
    const { readAheadBytes } = executor.plan();
    const bytes = [sum("bytesWanted"), sum("bytesAhead"), sum("bytesAheadUsed")];
    return { logits, greedy, bytes, readAheadBytes };
  } finally {
    await executor.close();
  }
}

describe("a model that reads ahead", () => {
  const cases: [PolicyName, OpenOptions][] = [
    ["dense", {}],
    ["topk", {}],
    ["lagrange", {}],
    ["dense", { blockTokens: 7 }],
    ["topk", { prefetch: "auto" }],
  ];
  it.each(cases)("%s %o: says the same to the last bit", async (policy, options) => {
    const dir = await images.get("qwen2-tied-f32");
    const plain = await run(dir, { policy, ...options, prefetch: "off" });
    const ahead = await run(dir, { policy, prefetch: "always", ...options });
    expect(ahead.logits).toEqual(plain.logits);
    expect(ahead.greedy).toEqual(plain.greedy);
    expect(plain.bytes.slice(1)).toEqual([0, 0]);
    const [wanted, read, used] = ahead.bytes;
    expect(wanted).toBe(plain.bytes[0]);
    expect(used).toBeLessThanOrEqual(read);
    if (options.prefetch === "auto") return;
    expect(used).toBeGreaterThan(0);
    expect(plain.readAheadBytes).toBe(0);
    expect(ahead.readAheadBytes).toBeGreaterThan(0);
    // What comes is known; only the first matrix of all has nobody before it.
    if (policy === "dense") expect(used).toBe(read);
  });

  it("takes no other word for it", async () => {
    const dir = await images.get("qwen2-tied-f32");
    const prefetch = "sometimes" as never;
    await expect(VlmExecutor.open(dir, { prefetch })).rejects.toMatchObject({
      code: "INVALID_OPTION",
    });
  });
});
