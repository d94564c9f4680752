import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import {
  encodeAsLlama2c,
  ensureTinyStories,
  readTinyStories,
  type Llama2cTensor,
} from "@neuron-chunking/tinystories";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { convertCheckpoint } from "../src/convert.js";
import { openFlashImage } from "../src/flash-image.js";
import { verifyFlashImage } from "../src/verify.js";
import { workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();
const checkpointDir = join(dir, "tinystories");
const json = (name: string) =>
  JSON.parse(readFileSync(join(checkpointDir, name), "utf8")) as Record<string, unknown>;

beforeAll(async () => {
  await ensureTinyStories(checkpointDir);
});

describe("a trained checkpoint", () => {
  it("becomes an image with the shapes of its configuration and the bytes of its source", async () => {
    const outputDir = join(dir, "image");
    const manifest = await convertCheckpoint({ checkpointDir, outputDir });
    expect(manifest.model.decoder).toMatchObject({
      ...{ layers: 6, hiddenSize: 288, intermediateSize: 768, heads: 6, kvHeads: 6 },
      ...{ headDim: 48, vocabSize: 32_000, tieWordEmbeddings: true },
    });
    await verifyFlashImage(outputDir);
    const image = await openFlashImage(outputDir);
    expect(image.bundles).toHaveLength(24);
    expect(image.bundle("layers.5.attn_in")).toMatchObject({ rows: 288, rowBytes: 3 * 288 * 4 });
    expect(image.bundle("layers.5.mlp_in")).toMatchObject({ rows: 288, rowBytes: 2 * 768 * 4 });
    expect(image.bundle("layers.5.mlp_out")).toMatchObject({ rows: 768, rowBytes: 288 * 4 });
    const { weights } = await readTinyStories();
    const embedding = weights["embedding"] as Llama2cTensor;
    const resident = image.resident("decoder.embed_tokens.weight");
    expect(Buffer.compare(resident.bytes, embedding.bytes)).toBe(0);
    // Row 17 of the down projection's bundle is column 17 of w2 [288, 768].
    const { offsetBytes, rowBytes } = image.bundle("layers.3.mlp_out");
    const row = await image.reader.read({
      offsetsBytes: Float64Array.of(offsetBytes + 17 * rowBytes),
      lengthsBytes: Float64Array.of(rowBytes),
      count: 1,
    });
    const down = (weights["w2"] as Llama2cTensor[])[3].bytes;
    const column = Array.from({ length: 288 }, (_, output) =>
      new DataView(down.buffer, down.byteOffset).getFloat32((output * 768 + 17) * 4, true),
    );
    const view = row.view(0);
    const stored = Array.from({ length: 288 }, (_, output) =>
      new DataView(view.buffer, view.byteOffset).getFloat32(output * 4, true),
    );
    expect(stored).toEqual(column);
    await image.close();
  });

  it("has a tokenizer that splits as llama2.c does and gives texts back", async () => {
    const { tokens } = await readTinyStories();
    const tokenizer = new Tokenizer(json("tokenizer.json"), json("tokenizer_config.json"));
    const piece = fc.nat(tokens.length - 260).map((at) => tokens[259 + at].piece);
    const words = fc.constantFrom(
      "Once",
      "upon",
      "a",
      "time",
      "Lily",
      ",",
      "!",
      "\n",
      "  ",
      "é",
      "漢",
      "🙂",
    );
    const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
    console.info(`tokenizer: FUZZ_SEED=${seed}`);
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, words), { minLength: 1, maxLength: 20 }), (parts) => {
        const text = parts.join(" ").replaceAll("\u2581", " ");
        const ids = Array.from(tokenizer.encode(text).ids, Number);
        expect(ids).toEqual(encodeAsLlama2c(tokens, text));
        expect(tokenizer.decode(ids, { skip_special_tokens: true })).toBe(text);
      }),
      { numRuns: 60, seed },
    );
  });
});
