import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { convertCheckpoint, type ConvertProgress } from "../src/convert.js";
import { openFlashImage, type FlashImage } from "../src/flash-image.js";
import { readSafetensorsHeader } from "../src/safetensors.js";
import { verifyFlashImage } from "../src/verify.js";
import {
  LLAVA_NAMES,
  namingOf,
  TINY,
  tinyTensors,
  writeCheckpoint,
  type TinyModel,
} from "./helpers/checkpoint.js";
import { expectedBundle, shuffled } from "./helpers/expected.js";
import { contents, expectCode, workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();
let serial = 0;
const fresh = (name: string) => join(dir, `${name}-${serial++}`);

async function bundleBytes(image: FlashImage, name: string): Promise<Buffer> {
  const { offsetBytes, rows, rowBytes } = image.bundle(name);
  const result = await image.reader.read({
    offsetsBytes: Float64Array.of(offsetBytes),
    lengthsBytes: Float64Array.of(rows * rowBytes),
    count: 1,
  });
  return Buffer.from(result.view(0));
}

const innerOf = (image: FlashImage, layer: number) =>
  image.bundles.find(
    ({ kind, layer: other }) => other === layer && (kind === "mlp_out" || kind === "down"),
  )?.storedOrder;

describe("every bundle holds the transposed weights", () => {
  const permutations = (bundled: boolean) => ({
    [bundled ? "layers.0.attn_in" : "layers.0.q"]: shuffled(TINY.hiddenSize, 3),
    [bundled ? "layers.0.attn_out" : "layers.0.o"]: shuffled(TINY.heads * TINY.headDim, 4),
    [bundled ? "layers.1.mlp_in" : "layers.1.up"]: shuffled(TINY.hiddenSize, 5),
    [bundled ? "layers.1.mlp_out" : "layers.1.down"]: shuffled(TINY.intermediateSize, 6),
  });
  const families = ["llama", "qwen2", "llava_onevision"] as const;
  const cases = families.flatMap((family) =>
    // Every dtype for one family; the others differ from it in names only.
    (family === "llama" ? ["BF16", "F16", "F32"] : ["BF16"]).flatMap((dtype) =>
      [true, false].flatMap((bundled) =>
        [true, false].map((reordered) => ({ family, dtype, bundled, reordered })),
      ),
    ),
  );

  it.each(cases)("$family $dtype bundled $bundled reordered $reordered", async (options) => {
    const { family, dtype, bundled, reordered } = options;
    const model: TinyModel = { ...TINY, family, dtype };
    const checkpointDir = fresh("checkpoint");
    const tensors = writeCheckpoint(checkpointDir, model, { shards: 3 });
    const outputDir = fresh("image");
    await convertCheckpoint({
      checkpointDir,
      outputDir,
      bundled,
      ...(reordered ? { permutations: permutations(bundled) } : {}),
    });
    const image = await openFlashImage(outputDir);
    expect(image.bundles).toHaveLength(TINY.layers * (bundled ? 4 : 7));
    for (const bundle of image.bundles) {
      const { decoder } = namingOf(model);
      const expected = expectedBundle(bundle, tensors, decoder, innerOf(image, bundle.layer));
      expect(await bundleBytes(image, bundle.name), bundle.name).toEqual(expected);
      expect(bundle.offsetBytes % 4096).toBe(0);
    }
    const folded = image.bundle(bundled ? "layers.1.mlp_out" : "layers.1.down");
    expect(folded.permutation).toBeUndefined();
    expect(folded.storedOrder !== undefined).toBe(reordered);
    const gathered = image.bundle(bundled ? "layers.0.attn_in" : "layers.0.q");
    expect(gathered.permutation !== undefined).toBe(reordered);
    expect(image.hasResident("lm_head.weight")).toBe(true);
    await image.close();
    await verifyFlashImage(outputDir);
  });
});

describe("names", () => {
  const model: TinyModel = { ...TINY, family: "llava_onevision" };

  it("of every release of transformers give the same image", async () => {
    const images: Record<string, string>[] = [];
    for (const naming of Object.values(LLAVA_NAMES)) {
      const checkpointDir = fresh("checkpoint");
      writeCheckpoint(checkpointDir, model, { tensors: tinyTensors(model, naming) });
      const outputDir = fresh("image");
      await convertCheckpoint({ checkpointDir, outputDir });
      const files = contents(outputDir);
      delete files["manifest.json"];
      images.push(files);
    }
    expect(images[1]).toEqual(images[0]);
    expect(images[2]).toEqual(images[0]);
  });

  it("are canonical in the image, and the tensors unchanged", async () => {
    const checkpointDir = fresh("checkpoint");
    const tensors = writeCheckpoint(checkpointDir, model);
    const outputDir = fresh("image");
    await convertCheckpoint({ checkpointDir, outputDir });
    const image = await openFlashImage(outputDir);
    for (const [name, source] of [
      ["decoder.embed_tokens.weight", "language_model.model.embed_tokens.weight"],
      ["decoder.norm.weight", "language_model.model.norm.weight"],
      [
        "decoder.layers.1.input_layernorm.weight",
        "language_model.model.layers.1.input_layernorm.weight",
      ],
      [
        "decoder.layers.0.self_attn.q_proj.bias",
        "language_model.model.layers.0.self_attn.q_proj.bias",
      ],
      ["lm_head.weight", "language_model.lm_head.weight"],
      [
        "vision.embeddings.patch_embedding.weight",
        "vision_tower.embeddings.patch_embedding.weight",
      ],
      ["vision.encoder.layers.0.mlp.fc1.bias", "vision_tower.encoder.layers.0.mlp.fc1.bias"],
      ["projector.linear_2.weight", "multi_modal_projector.linear_2.weight"],
      ["image_newline", "image_newline"],
    ]) {
      const view = image.resident(name);
      expect(view).toMatchObject({ dtype: "bf16", shape: tensors[source].shape });
      expect(Buffer.from(view.bytes).equals(tensors[source].bytes), name).toBe(true);
    }
    expect(image.residentNames().some((name) => name.includes("mlp.gate_proj"))).toBe(false);
    await image.close();
  });

  it("of a bare base model are understood", async () => {
    const llama: TinyModel = { ...TINY, tied: true };
    const naming = { ...namingOf(llama), decoder: "" };
    const checkpointDir = fresh("checkpoint");
    writeCheckpoint(checkpointDir, llama, { tensors: tinyTensors(llama, naming) });
    const { resident } = await convertCheckpoint({ checkpointDir, outputDir: fresh("image") });
    expect(resident.tensors.map(({ name }) => name)).toContain("decoder.norm.weight");
  });

  it("of computed buffers and the unused pooling head are left out and listed", async () => {
    const tensors = tinyTensors(model);
    const extra = [
      "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
      "vision_tower.vision_model.head.probe",
      "vision_tower.vision_model.embeddings.position_ids",
    ];
    for (const name of extra) {
      tensors[name] = { dtype: "I64", shape: [1], bytes: new Uint8Array(8) };
    }
    const checkpointDir = fresh("checkpoint");
    writeCheckpoint(checkpointDir, model, { tensors });
    const { source } = await convertCheckpoint({ checkpointDir, outputDir: fresh("image") });
    expect(source.ignoredTensors.sort()).toEqual(extra.sort());
  });
});

describe("the language model head", () => {
  it("is absent when the configuration ties it", async () => {
    for (const family of ["llama", "llava_onevision"] as const) {
      const checkpointDir = fresh("checkpoint");
      writeCheckpoint(checkpointDir, { ...TINY, family, tied: true });
      const outputDir = fresh("image");
      await convertCheckpoint({ checkpointDir, outputDir });
      const image = await openFlashImage(outputDir);
      expect(image.hasResident("lm_head.weight")).toBe(false);
      await expectCode(
        Promise.resolve().then(() => image.resident("lm_head.weight")),
        "MISSING_TENSOR",
      );
      await image.close();
    }
  });

  it("that is written although tied is dropped when equal and kept when not", async () => {
    const tied: TinyModel = { ...TINY, tied: true };
    const embedding = tinyTensors(tied)["model.embed_tokens.weight"];
    const other = tinyTensors(TINY)["lm_head.weight"];
    for (const head of [embedding, other]) {
      const checkpointDir = fresh("checkpoint");
      const tensors = { ...tinyTensors(tied), "lm_head.weight": head };
      writeCheckpoint(checkpointDir, tied, { tensors });
      const manifest = await convertCheckpoint({ checkpointDir, outputDir: fresh("image") });
      const names = manifest.resident.tensors.map(({ name }) => name);
      expect(names.includes("lm_head.weight")).toBe(head === other);
      expect(manifest.source.ignoredTensors).toEqual(head === other ? [] : ["lm_head.weight"]);
    }
  });

  it("that stands alone although tied is the embedding", async () => {
    const tied: TinyModel = { ...TINY, tied: true };
    const checkpointDir = fresh("checkpoint");
    const { "model.embed_tokens.weight": embedding, ...rest } = tinyTensors(tied);
    const tensors = { ...rest, "lm_head.weight": embedding };
    writeCheckpoint(checkpointDir, tied, { tensors });
    const { resident } = await convertCheckpoint({ checkpointDir, outputDir: fresh("image") });
    const names = resident.tensors.map(({ name }) => name);
    expect(names).toContain("decoder.embed_tokens.weight");
    expect(names).not.toContain("lm_head.weight");
  });

  it("must be there when it is not tied", async () => {
    const checkpointDir = fresh("checkpoint");
    const tensors = tinyTensors(TINY);
    delete tensors["lm_head.weight"];
    writeCheckpoint(checkpointDir, TINY, { tensors });
    const conversion = convertCheckpoint({ checkpointDir, outputDir: fresh("image") });
    await expectCode(conversion, "MISSING_TENSOR", "lm_head.weight");
  });
});

describe("the image directory", () => {
  it("is two safetensors files, the checkpoint's small files, and the manifest", async () => {
    const checkpointDir = fresh("checkpoint");
    writeCheckpoint(checkpointDir, TINY);
    const outputDir = fresh("image");
    const manifest = await convertCheckpoint({ checkpointDir, outputDir });
    expect(readdirSync(outputDir).sort()).toEqual([
      "chat_template.jinja",
      "config.json",
      "flash.safetensors",
      "manifest.json",
      "resident.safetensors",
      "tokenizer.json",
    ]);
    expect(JSON.parse(readFileSync(join(outputDir, "manifest.json"), "utf8"))).toEqual(manifest);
    const flash = await readSafetensorsHeader(join(outputDir, "flash.safetensors"));
    expect(flash.dataOffsetBytes % 4096).toBe(0);
    const pads = [...flash.tensors.values()].filter(({ name }) => name.startsWith("__pad__."));
    expect(pads.every(({ dtype, lengthBytes }) => dtype === "U8" && lengthBytes < 4096)).toBe(true);
    const resident = await readSafetensorsHeader(join(outputDir, "resident.safetensors"));
    for (const { name, offsetBytes } of resident.tensors.values()) {
      if (!name.startsWith("__pad__.")) expect(offsetBytes % 64, name).toBe(0);
    }
  });

  it("leaves nothing beside it, and is never overwritten unasked", async () => {
    const checkpointDir = fresh("checkpoint");
    writeCheckpoint(checkpointDir, TINY);
    const parent = fresh("parent");
    const outputDir = join(parent, "image");
    await convertCheckpoint({ checkpointDir, outputDir });
    expect(readdirSync(parent)).toEqual(["image"]);
    const before = contents(outputDir);
    await expectCode(convertCheckpoint({ checkpointDir, outputDir }), "OUTPUT_EXISTS");
    await convertCheckpoint({ checkpointDir, outputDir, overwrite: true });
    expect(contents(outputDir)).toEqual(before);
    expect(readdirSync(parent)).toEqual(["image"]);
    await expectCode(
      convertCheckpoint({ checkpointDir, outputDir: checkpointDir, overwrite: true }),
      "OUTPUT_EXISTS",
    );
    expect(existsSync(join(checkpointDir, "model.safetensors"))).toBe(true);
  });

  it("is written by one conversion at a time", async () => {
    const checkpointDir = fresh("checkpoint");
    writeCheckpoint(checkpointDir, TINY);
    const outputDir = fresh("image");
    const first = convertCheckpoint({ checkpointDir, outputDir });
    const second = convertCheckpoint({ checkpointDir, outputDir });
    const outcomes = await Promise.allSettled([first, second]);
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    expect(["BUSY", "OUTPUT_EXISTS"]).toContain((failed?.reason as { code: string }).code);
    await verifyFlashImage(outputDir);
  });
});

describe("progress and abortion", () => {
  it("progress only grows, and ends at the total", async () => {
    const checkpointDir = fresh("checkpoint");
    writeCheckpoint(checkpointDir, { ...TINY, layers: 3 }, { shards: 2 });
    const seen: ConvertProgress[] = [];
    await convertCheckpoint({
      checkpointDir,
      outputDir: fresh("image"),
      onProgress: (progress) => seen.push(progress),
    });
    for (let index = 1; index < seen.length; index++) {
      expect(seen[index].bytesDone).toBeGreaterThanOrEqual(seen[index - 1].bytesDone);
    }
    const last = seen[seen.length - 1];
    expect(last.bytesDone).toBe(last.bytesTotal);
    const phases = seen.map(({ phase }) => phase);
    expect([...new Set(phases)]).toEqual(["hash", "bundles", "resident", "finish"]);
    expect(seen.map(({ item }) => item)).toContain("layers.2.mlp_in");
  });

  it("an aborted conversion leaves no image; the next one finishes it", async () => {
    const checkpointDir = fresh("checkpoint");
    writeCheckpoint(checkpointDir, TINY);
    const reference = fresh("image");
    await convertCheckpoint({ checkpointDir, outputDir: reference });
    const outputDir = fresh("image");
    const controller = new AbortController();
    const reason = new Error("enough");
    const aborted = convertCheckpoint({
      checkpointDir,
      outputDir,
      signal: controller.signal,
      onProgress: ({ item }) => item === "layers.1.attn_in" && controller.abort(reason),
    });
    await expect(aborted).rejects.toBe(reason);
    expect(existsSync(outputDir)).toBe(false);
    await convertCheckpoint({ checkpointDir, outputDir });
    expect(contents(outputDir)).toEqual(contents(reference));
    expect(existsSync(`${outputDir}.partial`)).toBe(false);
    const already = AbortSignal.abort(reason);
    await expect(
      convertCheckpoint({ checkpointDir, outputDir: fresh("image"), signal: already }),
    ).rejects.toBe(reason);
  });
});

describe("permutations", () => {
  it.each([
    ["an unknown bundle", { "layers.9.mlp_in": shuffled(24) }],
    ["the wrong length", { "layers.0.mlp_in": shuffled(23) }],
    ["an entry twice", { "layers.0.mlp_in": new Uint32Array(24) }],
    [
      "an entry out of range",
      {
        "layers.0.mlp_in": shuffled(25)
          .map((v) => v)
          .subarray(0, 24)
          .fill(99, 3, 4),
      },
    ],
  ])("with %s are refused", async (_, permutations) => {
    const checkpointDir = fresh("checkpoint");
    writeCheckpoint(checkpointDir, TINY);
    const outputDir = fresh("image");
    const conversion = convertCheckpoint({ checkpointDir, outputDir, permutations });
    await expectCode(conversion, "INVALID_ARGUMENT", Object.keys(permutations)[0]);
    expect(existsSync(outputDir)).toBe(false);
  });
});
