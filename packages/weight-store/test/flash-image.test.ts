import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { planFromRows } from "@neuron-chunking/latency-model";
import { convertCheckpoint } from "../src/convert.js";
import { WeightStoreError } from "../src/errors.js";
import { openFlashImage } from "../src/flash-image.js";
import { parseManifest, readManifest } from "../src/manifest.js";
import { verifyFlashImage } from "../src/verify.js";
import { TINY, writeCheckpoint, type RawTensors } from "./helpers/checkpoint.js";
import { expectedBundle, shuffled } from "./helpers/expected.js";
import { expectCode, workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();
const checkpointDir = join(dir, "checkpoint");
let tensors: RawTensors;
let imageDir: string;
let manifestText: string;
let serial = 0;

beforeAll(() => {
  tensors = writeCheckpoint(checkpointDir, TINY);
});

beforeEach(async () => {
  imageDir = join(dir, `image-${serial++}`);
  const permutations = {
    "layers.0.mlp_in": shuffled(TINY.hiddenSize, 2),
    "layers.0.mlp_out": shuffled(TINY.intermediateSize, 3),
  };
  await convertCheckpoint({ checkpointDir, outputDir: imageDir, permutations });
  manifestText = readFileSync(join(imageDir, "manifest.json"), "utf8");
});

describe("an open image", () => {
  it("reads the rows of a plan", async () => {
    const image = await openFlashImage(imageDir, { tuning: { threads: 2 } });
    const bundle = image.bundle("layers.0.mlp_in");
    expect(bundle).toMatchObject({
      ...{ kind: "mlp_in", layer: 0, rows: 24, rowBytes: 160, dtype: "bf16" },
      parts: [
        { name: "gate_proj", columnOffset: 0, columns: 40 },
        { name: "up_proj", columnOffset: 40, columns: 40 },
      ],
    });
    const inner = image.bundle("layers.0.mlp_out").storedOrder;
    const expected = expectedBundle(bundle, tensors, "model.", inner);
    const plan = planFromRows([1, 2, 5, 9, 10, 11, 23]);
    const result = await image.reader.readPlan(plan, {
      baseOffsetBytes: bundle.offsetBytes,
      rowBytes: bundle.rowBytes,
    });
    for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
      const start = plan.starts[chunk] * bundle.rowBytes;
      const end = start + plan.lengths[chunk] * bundle.rowBytes;
      expect(Buffer.from(result.view(chunk))).toEqual(expected.subarray(start, end));
    }
    await image.close();
  });

  it("gives the configuration, and permutations where they matter", async () => {
    const image = await openFlashImage(imageDir);
    expect(image.config).toMatchObject({ model_type: "llama", hidden_size: 24 });
    expect(image.manifest.model.decoder).toMatchObject({ layers: 2, kvHeads: 2, headDim: 7 });
    expect(image.bundle("layers.0.mlp_in").permutation).toEqual(shuffled(24, 2));
    expect(image.bundle("layers.0.mlp_out").permutation).toBeUndefined();
    expect(image.bundle("layers.0.mlp_out").storedOrder).toEqual(shuffled(40, 3));
    expect(image.bundle("layers.1.mlp_in").storedOrder).toBeUndefined();
    await expectCode(
      Promise.resolve().then(() => image.bundle("layers.2.mlp_in")),
      "INVALID_ARGUMENT",
      "layers.0.attn_in",
    );
    await image.close();
  });

  it("has the same resident tensors whether read at once or when asked for", async () => {
    const progress: [number, number][] = [];
    const eager = await openFlashImage(imageDir, { onProgress: (...at) => progress.push(at) });
    const lazy = await openFlashImage(imageDir, { resident: "lazy" });
    expect(lazy.residentNames()).toEqual(eager.residentNames());
    for (const name of eager.residentNames()) {
      const view = eager.resident(name);
      expect(lazy.resident(name)).toEqual(view);
      expect(view.bytes.byteOffset % 4).toBe(0);
    }
    const [done, total] = progress[progress.length - 1];
    expect(done).toBe(total);
    await eager.close();
    await lazy.close();
    await expectCode(
      Promise.resolve().then(() => lazy.resident("decoder.norm.weight")),
      "CLOSED",
    );
  });

  it("can be given up while it is read", async () => {
    const reason = new Error("changed my mind");
    await expect(openFlashImage(imageDir, { signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    );
  });
});

describe("a damaged image", () => {
  it("of missing or truncated files is refused when opened", async () => {
    await expectCode(openFlashImage(join(dir, "absent")), "NOT_FOUND", "manifest.json");
    for (const file of ["flash.safetensors", "resident.safetensors"]) {
      const path = join(imageDir, file);
      const bytes = readFileSync(path);
      truncateSync(path, bytes.length - 4096);
      await expectCode(openFlashImage(imageDir), "TRUNCATED", file);
      writeFileSync(path, bytes);
    }
    await (await openFlashImage(imageDir)).close();
  });

  it("of other content is found by verification", async () => {
    await verifyFlashImage(imageDir);
    const { flash, resident } = await readManifest(imageDir);
    for (const [file, offset, name] of [
      ["flash.safetensors", flash.bundles[3].offsetBytes + 7, flash.bundles[3].name],
      ["resident.safetensors", resident.tensors[1].offsetBytes, resident.tensors[1].name],
      ["tokenizer.json", 3, "tokenizer.json"],
    ] as const) {
      const path = join(imageDir, file);
      const bytes = readFileSync(path);
      const spoiled = Buffer.from(bytes);
      spoiled[offset] ^= 1;
      writeFileSync(path, spoiled);
      await expectCode(verifyFlashImage(imageDir), "CORRUPT_IMAGE", name);
      writeFileSync(path, bytes);
    }
    await verifyFlashImage(imageDir);
  });

  it("of a permutation that is none is refused", async () => {
    const { resident } = await readManifest(imageDir);
    const tensor = resident.tensors.find(({ name }) => name === "permutations.layers.0.mlp_in");
    const path = join(imageDir, "resident.safetensors");
    const bytes = readFileSync(path);
    bytes.writeUInt32LE(99, tensor?.offsetBytes);
    writeFileSync(path, bytes);
    await expectCode(openFlashImage(imageDir), "INVALID_ARGUMENT", "layers.0.mlp_in");
  });
});

describe("a manifest", () => {
  const spoil = (change: (manifest: Record<string, never>) => void) => {
    const manifest = JSON.parse(manifestText) as Record<string, never>;
    change(manifest);
    writeFileSync(join(imageDir, "manifest.json"), JSON.stringify(manifest));
    return openFlashImage(imageDir);
  };

  it("round-trips", () => {
    expect(parseManifest(JSON.parse(manifestText) as Record<string, unknown>)).toEqual(
      JSON.parse(manifestText),
    );
  });

  it("of another version says so", async () => {
    await expectCode(
      spoil((manifest) => Object.assign(manifest, { schemaVersion: 3 })),
      "UNSUPPORTED_VERSION",
      "version 3",
    );
  });

  it.each([
    ["format", { format: "gguf" }],
    ["bundled", { bundled: "yes" }],
    ["model", { model: null }],
    ["source.files", { source: { files: {} } }],
    ["flash.file", { flash: { file: "../flash.safetensors" } }],
    ["resident.sizeBytes", { resident: { file: "r", sizeBytes: -1 } }],
    ["files[0].sha256", { files: [{ name: "a", sizeBytes: 1, sha256: "x" }] }],
  ])("with a bad %s is refused by name", async (field, change) => {
    await expectCode(
      spoil((manifest) => Object.assign(manifest, change)),
      "INVALID_MANIFEST",
      field,
    );
  });

  it("that contradicts the files is refused", async () => {
    type Bundles = { flash: { bundles: { [field: string]: unknown }[] } };
    for (const change of [
      { offsetBytes: 0 },
      { rows: 23 },
      { rowBytes: 100 },
      { dtype: "f16" },
      { name: "layers.9.mlp_in" },
      { parts: [{ name: "q_proj", columnOffset: 2, columns: 56 }] },
    ]) {
      const opened = spoil((manifest) =>
        Object.assign((manifest as unknown as Bundles).flash.bundles[0], change),
      );
      await expectCode(opened, "INVALID_MANIFEST", "disagree");
    }
  });

  it("with any value replaced loads or fails with the typed error", () => {
    const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
    console.info(`manifest fuzz: FUZZ_SEED=${seed}`);
    fc.assert(
      fc.property(fc.nat(), fc.jsonValue(), (at, value) => {
        let seen = 0;
        const count = JSON.stringify(JSON.parse(manifestText, () => seen++)).length + seen;
        let index = 0;
        const spoiled = JSON.parse(manifestText, (_, old: unknown) =>
          index++ === at % count ? value : old,
        ) as Record<string, unknown>;
        try {
          parseManifest(spoiled ?? {});
        } catch (error) {
          if (!(error instanceof WeightStoreError)) throw error;
        }
      }),
      { numRuns: 300, seed },
    );
  });
});
