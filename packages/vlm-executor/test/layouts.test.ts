/** Dense output does not depend on how rows are stored, sliced or grouped; nor do policies that keep all rows. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openFlashImage } from "@neuron-chunking/weight-store";
import { VlmExecutor } from "../src/index.js";
import type { OpenOptions, StepTrace } from "../src/index.js";
import { Images, relativeError } from "./support/images.js";

/** Sums in another order: differences of rounding only. */
const ROUNDING = 1e-5;
const TOKEN_IDS = Array.from({ length: 40 }, (_, i) => 5 + ((i * 37) % 300));

let images: Images;
beforeAll(async () => {
  images = await Images.create();
});
afterAll(() => images.remove());

async function logits(dir: string, options: OpenOptions = {}): Promise<Float32Array> {
  const executor = await VlmExecutor.open(dir, options);
  try {
    const result = await executor.logits({ tokenIds: TOKEN_IDS });
    return result.logits[0];
  } finally {
    await executor.close();
  }
}

/** A permutation of every matrix of an image, as a seeded shuffle. */
async function shuffles(dir: string): Promise<Record<string, Uint32Array>> {
  const image = await openFlashImage(dir);
  let state = 12345;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % below;
  };
  const permutations: Record<string, Uint32Array> = {};
  for (const { name, rows } of image.bundles) {
    const order = Uint32Array.from({ length: rows }, (_, i) => i);
    for (let i = rows - 1; i > 0; i--) {
      const j = next(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    permutations[name] = order;
  }
  await image.close();
  return permutations;
}

describe.each(["qwen2-tied-f32", "llama-headdim-bf16", "llava-untied-bf16"])("%s", (name) => {
  let bundled: string;
  let expected: Float32Array;
  beforeAll(async () => {
    bundled = await images.get(name);
    expected = await logits(bundled);
  });

  it("is the same unbundled", async () => {
    const dir = await images.get(name, { bundled: false }, "-unbundled");
    expect(relativeError(await logits(dir), expected)).toBeLessThan(ROUNDING);
  });

  it("is the same reordered, bundled and not", async () => {
    const permutations = await shuffles(bundled);
    const dir = await images.get(name, { permutations }, "-reordered");
    expect(relativeError(await logits(dir), expected)).toBeLessThan(ROUNDING);
    const unbundled = await images.get(name, { bundled: false }, "-unbundled");
    const single = await images.get(
      name,
      { bundled: false, permutations: await shuffles(unbundled) },
      "-reordered-unbundled",
    );
    expect(relativeError(await logits(single), expected)).toBeLessThan(ROUNDING);
  });

  it("is the same in blocks of any size", async () => {
    for (const blockTokens of [1, 7, 39]) {
      expect(relativeError(await logits(bundled, { blockTokens }), expected)).toBeLessThan(
        ROUNDING,
      );
    }
  });

  it("is the same through landing buffers of a few rows", async () => {
    expect(relativeError(await logits(bundled, { landingBytes: 1 }), expected)).toBeLessThan(
      ROUNDING,
    );
  });

  it("is the same buffered", async () => {
    const got = await logits(bundled, {
      directIo: "disabled",
      readTuning: { backend: "pool", threads: 1 },
    });
    expect(relativeError(got, expected)).toBeLessThan(ROUNDING);
  });

  it.each(["topk", "chunk", "threshold"] as const)("is the same when %s keeps all", async (p) => {
    const options = { policy: p, sparsity: 0, ...(p === "threshold" ? { threshold: 0 } : {}) };
    expect(relativeError(await logits(bundled, options), expected)).toBeLessThan(ROUNDING);
  });

  it.each(["topk", "chunk"] as const)(
    "keeps the budget under %s and says it is lossy",
    async (p) => {
      const steps: StepTrace[] = [];
      const executor = await VlmExecutor.open(bundled, { policy: p, sparsity: 0.5 });
      const session = executor.createSession({ onStep: (step) => steps.push(step) });
      await session.appendTokens(TOKEN_IDS);
      expect(session.accuracy).toBe("lossy");
      expect(steps).toHaveLength(1);
      const { projections, accuracy, policy, phase, tokens } = steps[0];
      expect({ accuracy, policy, phase, tokens }).toEqual({
        accuracy: "lossy",
        policy: p,
        phase: "prefill",
        tokens: TOKEN_IDS.length,
      });
      expect(projections).toHaveLength(4 * executor.config.decoder.layerCount);
      for (const step of projections) {
        expect(step.rows).toBeLessThanOrEqual(Math.round(step.totalRows / 2));
        expect(step.rows).toBeGreaterThan(0);
        expect(step.chunks).toBeGreaterThan(0);
        expect(step.importanceKept).toBeGreaterThan(0.2);
        expect(step.importanceKept).toBeLessThan(1);
        expect(step.bytesRead).toBeGreaterThanOrEqual(step.bytesWanted);
        expect(step.estimatedReadNs).toBeGreaterThan(0);
      }
      const { totals } = session;
      const rows = projections.reduce((sum, step) => sum + step.rows, 0);
      expect(totals.prefill.rows).toBe(rows);
      expect(totals.decode.steps).toBe(0);
      await executor.close();
    },
  );
});

it("selects less importance by chunks than by rows at the same budget", async () => {
  const dir = await images.get("qwen2-tied-f32");
  const kept: Record<string, number> = {};
  for (const policy of ["topk", "chunk"] as const) {
    const executor = await VlmExecutor.open(dir, { policy, sparsity: 0.5 });
    const session = executor.createSession();
    await session.appendTokens(TOKEN_IDS);
    const [{ projections }] = session.traces;
    kept[policy] = projections.reduce((sum, step) => sum + step.importanceKept, 0);
    await executor.close();
  }
  expect(kept["chunk"]).toBeLessThanOrEqual(kept["topk"]);
});

it("calibrates a row order for every matrix, under which dense output is unchanged", async () => {
  const dir = await images.get("qwen2-tied-f32");
  const executor = await VlmExecutor.open(dir, { blockTokens: 8 });
  const prompts = [{ tokenIds: TOKEN_IDS }, { tokenIds: TOKEN_IDS.map((id) => id + 1) }];
  const permutations = await executor.calibrate(prompts);
  await executor.close();
  const image = await openFlashImage(dir);
  expect(Object.keys(permutations).sort()).toEqual(image.bundles.map(({ name }) => name).sort());
  for (const { name, rows } of image.bundles) {
    expect([...permutations[name]].sort((a, b) => a - b)).toEqual([...Array(rows).keys()]);
  }
  await image.close();
  const reordered = await images.get("qwen2-tied-f32", { permutations }, "-calibrated");
  expect(relativeError(await logits(reordered), await logits(dir))).toBeLessThan(ROUNDING);

  // The same channels are found hot whatever order they are stored in.
  const again = await VlmExecutor.open(reordered, { blockTokens: 8 });
  expect(await again.calibrate(prompts)).toEqual(permutations);
  expect(await again.calibrate([]).catch((cause: { code: string }) => cause.code)).toBe(
    "EMPTY_PROMPT",
  );
  await again.close();
});
