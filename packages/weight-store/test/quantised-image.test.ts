import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ensureFlashImage, isUpToDate } from "../src/cache.js";
import { convertCheckpoint, type ConvertOptions } from "../src/convert.js";
import { openFlashImage, type FlashImage } from "../src/flash-image.js";
import { parseManifest, readManifest } from "../src/manifest.js";
import { readSafetensorsHeader } from "../src/safetensors.js";
import { verifyFlashImage } from "../src/verify.js";
import {
  finiteTensors,
  namingOf,
  TINY,
  writeCheckpoint,
  type TinyModel,
} from "./helpers/checkpoint.js";
import { convertInChild } from "./helpers/child.js";
import { expectedBundle, shuffled } from "./helpers/expected.js";
import { naiveError, naiveRow, sizes, valuesOf } from "./helpers/naive-quantiser.js";
import { contents, expectCode, workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();
let serial = 0;
const fresh = (name: string) => join(dir, `${name}-${serial++}`);

/** Odd sizes: rows with an empty nibble, groups that end short, groups across two projections. */
const ODD: TinyModel = { ...TINY, hiddenSize: 33, intermediateSize: 71 };

async function bundleBytes(image: FlashImage, name: string): Promise<Buffer> {
  const { offsetBytes, rows, rowBytes } = image.bundle(name);
  const result = await image.reader.read({
    offsetsBytes: Float64Array.of(offsetBytes),
    lengthsBytes: Float64Array.of(rows * rowBytes),
    count: 1,
  });
  return Buffer.from(result.view(0));
}

const permutations = (bundled: boolean) => ({
  [bundled ? "layers.0.attn_in" : "layers.0.q"]: shuffled(ODD.hiddenSize, 3),
  [bundled ? "layers.1.mlp_in" : "layers.1.up"]: shuffled(ODD.hiddenSize, 5),
  [bundled ? "layers.1.mlp_out" : "layers.1.down"]: shuffled(ODD.intermediateSize, 6),
});

describe("every bundle holds the transposed weights, quantised row by row", () => {
  const cases = (["BF16", "F16", "F32"] as const).flatMap((source) =>
    (["int8", "int4"] as const).flatMap((dtype) =>
      ([32, 64] as const).map((groupSize, index) => ({
        ...{ source, dtype, groupSize },
        bundled: index === 0,
        reordered: source !== "F16" || dtype === "int4",
      })),
    ),
  );

  it.each(cases)("$source to $dtype of $groupSize, bundled $bundled", async (options) => {
    const { source, dtype, groupSize, bundled, reordered } = options;
    const model: TinyModel = { ...ODD, dtype: source };
    const checkpointDir = fresh("checkpoint");
    const tensors = writeCheckpoint(checkpointDir, model, { tensors: finiteTensors(model) });
    const outputDir = fresh("image");
    const manifest = await convertCheckpoint({
      ...{ checkpointDir, outputDir, bundled, dtype, groupSize },
      ...(reordered ? { permutations: permutations(bundled) } : {}),
    });
    expect(manifest.schemaVersion).toBe(2);
    const image = await openFlashImage(outputDir);
    for (const [index, bundle] of image.bundles.entries()) {
      const columns = bundle.parts.reduce((sum, part) => sum + part.columns, 0);
      const elementBytes = source === "F32" ? 4 : 2;
      const inner = image.bundles.find(
        ({ kind, layer }) => layer === bundle.layer && (kind === "mlp_out" || kind === "down"),
      )?.storedOrder;
      const plain = { ...bundle, rowBytes: columns * elementBytes };
      const { decoder } = namingOf(model);
      const values = valuesOf(expectedBundle(plain, tensors, decoder, inner), source);
      const rows = Array.from({ length: bundle.rows }, (_, row) =>
        values.slice(row * columns, (row + 1) * columns),
      );
      const expected = Buffer.concat(rows.map((row) => naiveRow(row, { dtype, groupSize })));
      expect(bundle.rowBytes).toBe(sizes({ dtype, groupSize }, columns).rowBytes);
      expect(bundle).toMatchObject({ dtype, groupSize });
      expect((await bundleBytes(image, bundle.name)).equals(expected), bundle.name).toBe(true);
      expect(bundle.offsetBytes % 4096).toBe(0);
      const { quantisedFrom, sha256 } = manifest.flash.bundles[index];
      expect(sha256).toBe(createHash("sha256").update(expected).digest("hex"));
      const errors = rows.map((row) => naiveError(row, { dtype, groupSize }));
      expect(quantisedFrom?.dtype).toBe(source.toLowerCase());
      expect(quantisedFrom?.error.worst).toBeCloseTo(Math.max(...errors), 12);
      expect(quantisedFrom?.error.mean).toBeCloseTo(
        errors.reduce((sum, error) => sum + error, 0) / rows.length,
        12,
      );
    }
    const norm = image.resident("decoder.norm.weight");
    expect(norm.dtype).toBe(source.toLowerCase());
    expect(Buffer.from(norm.bytes).equals(tensors["model.norm.weight"].bytes)).toBe(true);
    await image.close();
    await verifyFlashImage(outputDir);
  });
});

describe("a quantised image", () => {
  const checkpointDir = join(dir, "checkpoint");
  const imageDir = join(dir, "image");
  const convert = (options: Partial<ConvertOptions> = {}) =>
    convertCheckpoint({ checkpointDir, outputDir: fresh("image"), dtype: "int4", ...options });

  beforeAll(async () => {
    writeCheckpoint(checkpointDir, ODD, { tensors: finiteTensors(ODD) });
    await convertCheckpoint({ checkpointDir, outputDir: imageDir, dtype: "int4" });
  });

  it("opens with any safetensors reader: rows are bytes, and the file says of what", async () => {
    const path = join(imageDir, "flash.safetensors");
    const { tensors } = await readSafetensorsHeader(path);
    const { flash } = await readManifest(imageDir);
    for (const { name, rows, rowBytes, groupSize } of flash.bundles) {
      expect(tensors.get(name)).toMatchObject({ dtype: "U8", shape: [rows, rowBytes] });
      expect(groupSize).toBe(32);
    }
    const file = readFileSync(path);
    const header = file.subarray(8, 8 + Number(file.readBigUInt64LE())).toString();
    expect((JSON.parse(header) as Record<string, unknown>)["__metadata__"]).toEqual({
      format: "neuron-chunking/flash",
      dtype: "int4",
      groupSize: "32",
    });
  });

  it("is smaller than its source as the layout says, and an unquantised one is what it was", async () => {
    const plain = await convert({ dtype: undefined });
    expect(plain.schemaVersion).toBe(1);
    for (const bundle of plain.flash.bundles) {
      expect(bundle.dtype).toBe("bf16");
      expect("groupSize" in bundle || "quantisedFrom" in bundle).toBe(false);
    }
  });

  it("has a place of its own in the cache, by dtype and group size", async () => {
    const cacheDir = fresh("cache");
    const dirs = new Set<string>();
    const all = [
      {},
      { dtype: "int8" },
      { dtype: "int4" },
      { dtype: "int4", groupSize: 64 },
    ] as const;
    for (const options of all) {
      const made = await ensureFlashImage({ checkpointDir, cacheDir, ...options });
      expect(made.converted).toBe(true);
      expect(await isUpToDate(made.dir, checkpointDir, options)).toBe(true);
      dirs.add(made.dir);
    }
    expect(dirs.size).toBe(4);
    // 32 is the default.
    const same = { checkpointDir, cacheDir, dtype: "int4", groupSize: 32 } as const;
    expect((await ensureFlashImage(same)).converted).toBe(false);
    expect(await isUpToDate(imageDir, checkpointDir, {})).toBe(false);
  });

  it.each<[string, Partial<ConvertOptions>, string, string]>([
    ["another group size", { groupSize: 48 as 32 }, "groupSize", "32 or 64"],
    ["a group size alone", { dtype: undefined, groupSize: 32 as const }, "groupSize", "dtype"],
    ["another dtype", { dtype: "bf16" as "int8" }, "dtype", "int8 or int4"],
  ])("of %s is refused before anything is written", async (_, options, ...mentions) => {
    const outputDir = join(fresh("parent"), "image");
    await expectCode(convert({ ...options, outputDir }), "INVALID_ARGUMENT", ...mentions);
    expect(existsSync(outputDir)).toBe(false);
  });

  it.each([
    ["NaN", 0x7fc0, "NaN", "no number"],
    ["infinite", 0xff80, "-Infinity", "no number"],
    ["too large", 0x7f00, "1.7", "too large"],
  ])(
    "of a weight that is %s is refused by tensor, output and input",
    async (_, bits, ...mentions) => {
      const other = fresh("checkpoint");
      const tensors = finiteTensors(ODD);
      const name = "model.layers.1.mlp.up_proj.weight";
      const [output, input] = [69, 17];
      Buffer.from(tensors[name].bytes.buffer, tensors[name].bytes.byteOffset).writeUInt16LE(
        bits,
        2 * (output * ODD.hiddenSize + input),
      );
      writeCheckpoint(other, ODD, { tensors });
      const parent = fresh("parent");
      mkdirSync(parent);
      const order = shuffled(ODD.hiddenSize, 5);
      const error = await expectCode(
        convertCheckpoint({
          ...{ checkpointDir: other, outputDir: join(parent, "image"), dtype: "int4" },
          permutations: permutations(true),
        }),
        "INVALID_WEIGHT",
        `${name}[${output}, ${input}]`,
        `row ${order.indexOf(input)} of layers.1.mlp_in`,
        ...mentions,
      );
      expect(error).toMatchObject({ tensorName: name, got: { output, input } });
      expect(readdirSync(parent)).toEqual([]);
      // Weights that are only moved are not looked at.
      await convertCheckpoint({ checkpointDir: other, outputDir: join(parent, "image") });
    },
  );

  describe("has a manifest", () => {
    type Bundle = Record<string, unknown>;
    const spoiled = (change: (bundle: Bundle, manifest: Record<string, unknown>) => void) => {
      const text = readFileSync(join(imageDir, "manifest.json"), "utf8");
      const manifest = JSON.parse(text) as { flash: { bundles: Bundle[] } };
      change(manifest.flash.bundles[2], manifest);
      return Promise.resolve().then(() => parseManifest(manifest));
    };

    it("that round-trips", async () => {
      const text = readFileSync(join(imageDir, "manifest.json"), "utf8");
      expect(await spoiled(() => undefined)).toEqual(JSON.parse(text));
    });

    it.each<[string, string, Bundle]>([
      ["dtype", "must be one of f32, bf16, f16, int8, int4", { dtype: "int2" }],
      ["groupSize", "one of 32, 64", { groupSize: 48 }],
      ["groupSize", "an integer", { groupSize: undefined }],
      ["groupSize", "absent from bf16 bundles", { dtype: "bf16" }],
      ["quantisedFrom", "absent", { dtype: "bf16", groupSize: undefined }],
      [
        "quantisedFrom.error.worst",
        "a number",
        { quantisedFrom: { dtype: "f32", error: { mean: 0 } } },
      ],
      ["rowBytes", "82, of 142 columns of int4 in groups of 32", { rowBytes: 81 }],
      ["rowBytes", "78, of 142 columns of int4 in groups of 64", { groupSize: 64 }],
      ["rowBytes", "152, of 142 columns of int8", { dtype: "int8" }],
    ])("whose %s must be %s", async (field, expected, change) => {
      const parsed = spoiled((bundle) => {
        Object.assign(bundle, change);
      });
      await expectCode(parsed, "INVALID_MANIFEST", `flash.bundles[2].${field}`, expected);
    });

    it("of a version that says what it holds: 1 has no quantised rows, 3 is not known yet", async () => {
      const version = (schemaVersion: number) =>
        spoiled((_, manifest) => Object.assign(manifest, { schemaVersion }));
      await expectCode(version(1), "INVALID_MANIFEST", "flash.bundles[0].dtype");
      await expectCode(version(3), "UNSUPPORTED_VERSION", "version 3", "up to 2", "Update");
    });

    it("that the file must bear out", async () => {
      const copy = fresh("image");
      await convert({ outputDir: copy });
      const path = join(copy, "manifest.json");
      const text = readFileSync(path, "utf8");
      const { flash } = JSON.parse(text) as { flash: { bundles: Bundle[] } };
      const rows = flash.bundles[0]["rows"] as number;
      writeFileSync(path, text.replace(`"rows": ${rows},`, `"rows": ${rows - 1},`));
      await expectCode(openFlashImage(copy), "INVALID_MANIFEST", "disagree");
    });
  });
});

describe("a quantising conversion killed", () => {
  const model: TinyModel = { ...TINY, hiddenSize: 96, intermediateSize: 256, layers: 6 };
  const checkpointDir = join(dir, "larger");
  let reference: Record<string, string>;

  beforeAll(async () => {
    writeCheckpoint(checkpointDir, model, { tensors: finiteTensors(model), shards: 2 });
    const outputDir = fresh("image");
    await convertCheckpoint({ checkpointDir, outputDir, dtype: "int8", groupSize: 64 });
    reference = contents(outputDir);
  });

  it.each([0.5, 0.7, 0.8, 0.95])("at %f of its bytes goes on to the same bytes", async (killAt) => {
    const outputDir = fresh("image");
    const options = { checkpointDir, outputDir, dtype: "int8", groupSize: 64 } as const;
    expect(convertInChild({ ...options, killAt }).signal).toBe("SIGKILL");
    expect(existsSync(outputDir)).toBe(false);
    if (killAt > 0.7) {
      const journal = readFileSync(join(`${outputDir}.partial`, "journal.jsonl"), "utf8");
      expect(journal).toContain('"error":{"mean":');
    }
    await convertCheckpoint(options);
    // The manifest, with the errors of bundles that were finished before, included.
    expect(contents(outputDir)).toEqual(reference);
  });

  it("starts again when the format is another", async () => {
    const outputDir = fresh("image");
    convertInChild({ checkpointDir, outputDir, dtype: "int8", groupSize: 32, killAt: 0.9 });
    await convertCheckpoint({ checkpointDir, outputDir, dtype: "int8", groupSize: 64 });
    expect(contents(outputDir)).toEqual(reference);
  });
});
