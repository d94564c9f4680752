import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import {
  openFlashImage,
  readManifest,
  readSafetensorsHeader,
  verifyFlashImage,
  type Manifest,
} from "@neuron-chunking/weight-store";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ConversionSummary } from "../src/verbs/convert-summary";
import { dequantisedCheckpoint } from "../../../packages/vlm-executor/test/support/dequantised";
import { fixtureModel, nchunk, nchunkJson } from "./support/cli";

const MODEL = fixtureModel("llava-tied-f32");
const DEMO_MODEL = path.resolve(import.meta.dirname, "../assets/demo-model");
const WEIGHTS = path.join(MODEL, "model.safetensors");

let folder: string;
beforeAll(async () => (folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-convert-"))));
afterAll(() => rm(folder, { recursive: true, force: true }));

const convert = (out: string, ...more: string[]): string[] => [
  ...["convert", "--model", MODEL, "--out", path.join(folder, out), ...more],
];

type Converted = Manifest & { conversion: ConversionSummary };

/** Decoder projections of the checkpoint, by the end of their names: "layers.0.self_attn.o_proj.weight". */
async function projections() {
  const { tensors } = await readSafetensorsHeader(WEIGHTS);
  const file = await readFile(WEIGHTS);
  return [...tensors.values()].flatMap(({ name, shape, offsetBytes, lengthBytes }) => {
    const end = /layers\.\d+\.(?:self_attn|mlp)\.[a-z]+_proj\.weight$/.exec(name)?.[0];
    if (end === undefined || name.includes("vision")) return [];
    return [{ end, shape, bytes: file.subarray(offsetBytes, offsetBytes + lengthBytes) }];
  });
}

/** IEEE binary16 by its definition. */
function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  return exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
}

/** |stored - original| / |original| of every row of every attn_out of an int8 image, from both files' bytes. */
async function outputErrors(imageDir: string, groupSize: number): Promise<number[]> {
  const sources = await projections();
  const flash = await readFile(path.join(imageDir, "flash.safetensors"));
  const { bundles } = (await readManifest(imageDir)).flash;
  return bundles
    .filter(({ kind }) => kind === "attn_out")
    .flatMap(({ layer, rows, rowBytes, offsetBytes }) => {
      const name = `layers.${layer}.self_attn.o_proj.weight`;
      const source = sources.find(({ end }) => end === name);
      const columns = source?.shape[0] ?? 0;
      return Array.from({ length: rows }, (_, row) => {
        let error = 0;
        let norm = 0;
        for (let column = 0; column < columns; column++) {
          const at = offsetBytes + row * rowBytes;
          const scalesAt = at + columns + (columns % 2);
          const scale = half(flash.readUInt16LE(scalesAt + 2 * Math.floor(column / groupSize)));
          const original = source?.bytes.readFloatLE(4 * (column * rows + row)) ?? NaN;
          error += (flash.readInt8(at + column) * scale - original) ** 2;
          norm += original ** 2;
        }
        return Math.sqrt(error / norm);
      });
    });
}

describe("convert --dtype", () => {
  it("tells bytes before and after and the errors by kind, as the files bear out", async () => {
    const made = (await nchunkJson(
      convert("int8", "--dtype", "int8", "--group-size", "64"),
    )) as unknown as Converted;
    const imageDir = path.join(folder, "int8");
    await verifyFlashImage(imageDir);
    const { conversion } = made;
    const sizes = (await projections()).map(({ bytes }) => bytes.length);
    expect(conversion.streamedBytesBefore).toBe(sizes.reduce((sum, size) => sum + size, 0));
    const { tensors } = await readSafetensorsHeader(path.join(imageDir, "flash.safetensors"));
    const stored = [...tensors.values()].filter(({ name }) => !name.startsWith("__pad__"));
    expect(stored.every(({ dtype }) => dtype === "U8")).toBe(true);
    expect(conversion.streamedBytesAfter).toBe(
      stored.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
    );
    const kinds = ["attn_in", "attn_out", "mlp_in", "mlp_out"];
    expect(conversion.quantisation.map(({ kind }) => kind)).toEqual(kinds);
    const errors = await outputErrors(imageDir, 64);
    const outputs = conversion.quantisation[1];
    expect(outputs.rows).toBe(errors.length);
    expect(outputs.worstRelativeError).toBeCloseTo(Math.max(...errors), 9);
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    expect(outputs.meanRelativeError).toBeCloseTo(mean, 9);
    const worst = made.flash.bundles.find(({ name }) => name === outputs.worstBundle);
    expect(worst?.quantisedFrom?.error.worst).toBe(outputs.worstRelativeError);
  });

  it("has groups of 32 unless told otherwise, and says that it is lossy", async () => {
    const { stdout, status } = await nchunk(convert("int4", "--dtype", "int4", "--no-bundled"));
    expect(status).toBe(0);
    expect(stdout).toMatch(/int4 in groups of 32: .* before, .* now/);
    expect(stdout).toContain("lossy");
    for (const kind of ["q", "k", "v", "o", "gate", "up", "down"]) {
      expect(stdout).toMatch(new RegExp(`│ ${kind} +│`));
    }
    const image = await openFlashImage(path.join(folder, "int4"));
    expect(image.bundles.every(({ groupSize }) => groupSize === 32)).toBe(true);
    await image.close();
  });

  it("without it stores weights bit for bit and says nothing of errors", async () => {
    const plain = (await nchunkJson(convert("plain"))) as unknown as Converted;
    const { streamedBytesBefore, streamedBytesAfter, quantisation } = plain.conversion;
    expect(streamedBytesAfter).toBe(streamedBytesBefore);
    expect(quantisation).toEqual([]);
    const { stdout } = await nchunk(convert("plain-text"));
    expect(stdout).not.toMatch(/lossy|error/);
  });

  it.each([
    ["a group size of 48", ["--dtype", "int4", "--group-size", "48"], /32 or 64/],
    ["a group size alone", ["--group-size", "32"], /dtype/],
    ["another dtype", ["--dtype", "fp4"], /int8, int4/],
  ])("with %s is refused and writes nothing", async (_, more, says) => {
    const { status, stderr } = await nchunk(convert("refused", ...more));
    expect(status).toBe(1);
    expect(stderr).toMatch(says);
    expect(await readdir(folder)).not.toContain("refused");
  });
});

describe("a quantised image", () => {
  const ask = ["--prompt", "What is it?", "--policy", "dense", "--max-new-tokens", "4"];

  it("is exact only with respect to its own weights, and every run says so", async () => {
    await nchunkJson(convert("labelled", "--dtype", "int8", "--group-size", "64"));
    const image = path.join(folder, "labelled");
    const weights = [{ dtype: "int8", groupSize: 64 }];
    const answer = await nchunkJson(["run", "--model", image, ...ask]);
    expect(answer).toMatchObject({ accuracy: "exact", weights });
    const { stdout } = await nchunk(["run", "--model", image, ...ask]);
    expect(stdout).toContain("exact; int8 weights in groups of 64, a lossy copy");
    const logits = ["logits", "--token-ids", "5,6", "--policy", "dense", "--model"];
    expect(await nchunkJson([...logits, image])).toMatchObject({ accuracy: "exact", weights });
    expect(await nchunkJson([...logits, MODEL])).toMatchObject({ weights: [{ dtype: "f32" }] });
  });

  it.each(["int8", "int4"])(
    "of the bundled model as %s runs as its stored weights do",
    async (dtype) => {
      const image = path.join(folder, `demo-${dtype}`);
      const made = ["convert", "--model", DEMO_MODEL, "--out", image, "--dtype", dtype];
      await nchunkJson(made);
      const stored = path.join(folder, `demo-${dtype}-stored`);
      await dequantisedCheckpoint(DEMO_MODEL, image, stored);
      const logits = async (model: string) => {
        const ids = Array.from({ length: 24 }, (_, i) => 5 + ((i * 13) % 90)).join();
        const all = ["logits", "--policy", "dense", "--token-ids", ids, "--model", model];
        return ((await nchunkJson(all))["logits"] as number[][])[0];
      };
      const [got, expected, original] = [
        await logits(image),
        await logits(stored),
        await logits(DEMO_MODEL),
      ];
      const distance = (a: number[], b: number[]) =>
        Math.max(...a.map((value, i) => Math.abs(value - b[i]))) / Math.max(...b.map(Math.abs));
      // f32 rounding; from the checkpoint it is as far as quantisation takes it.
      expect(distance(got, expected)).toBeLessThan(1e-5);
      expect(distance(got, original)).toBeGreaterThan(1e-4);
    },
  );
});
