import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ggufMetadata, writeCheckpoint, writeGguf } from "../src/bench/e2e/model-files";
import { modelBytes, SHAPES } from "../src/bench/e2e/model-shape";
import { RandomWeights } from "../src/bench/e2e/random-weights";

/**
 * A reader of GGUF written from the format's documentation alone, for every value type it names: nothing of the writer
 * is used in it.
 */
class GgufReader {
  private at = 0;
  readonly metadata = new Map<string, unknown>();
  readonly tensors: { name: string; sizes: number[]; type: number; offset: number }[] = [];
  readonly dataStart: number;
  private readonly view: DataView;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    expect([...bytes.subarray(0, 4)]).toEqual([0x47, 0x47, 0x55, 0x46]);
    this.at = 4;
    expect(this.u32()).toBe(3);
    const [tensors, pairs] = [this.u64(), this.u64()];
    for (let i = 0; i < pairs; i += 1) {
      const key = this.string();
      this.metadata.set(key, this.value(this.u32()));
    }
    for (let i = 0; i < tensors; i += 1) {
      const name = this.string();
      const sizes = Array.from({ length: this.u32() }, () => this.u64());
      this.tensors.push({ name, sizes, type: this.u32(), offset: this.u64() });
    }
    this.dataStart = Math.ceil(this.at / 32) * 32;
  }

  /** Values of a tensor; type 0 is f32, 1 is f16. */
  values(name: string): number[] {
    const { sizes, type, offset } = this.tensors.find((tensor) => tensor.name === name)!;
    const count = sizes.reduce((product, n) => product * n, 1);
    const start = this.dataStart + offset;
    return Array.from({ length: count }, (_, i) =>
      type === 0
        ? this.view.getFloat32(start + 4 * i, true)
        : fromHalf(this.view.getUint16(start + 2 * i, true)),
    );
  }

  private u32(): number {
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  private u64(): number {
    this.at += 8;
    return Number(this.view.getBigUint64(this.at - 8, true));
  }

  private string(): string {
    const length = this.u64();
    this.at += length;
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }

  private value(type: number): unknown {
    switch (type) {
      case 4:
        return this.u32();
      case 5:
        return this.u32() | 0;
      case 6:
        this.at += 4;
        return this.view.getFloat32(this.at - 4, true);
      case 7:
        this.at += 1;
        return this.bytes[this.at - 1] === 1;
      case 8:
        return this.string();
      case 9: {
        const [element, length] = [this.u32(), this.u64()];
        return Array.from({ length }, () => this.value(element));
      }
      default:
        throw new Error(`value type ${type}`);
    }
  }
}

/** By the definition of binary16: sign, 5 bits of exponent, 10 of fraction. */
function fromHalf(bits: number): number {
  const [sign, exponent, fraction] = [bits >>> 15 ? -1 : 1, (bits >>> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const shape = SHAPES.tiny;
let folder: string;
let file: Uint8Array;
let gguf: GgufReader;
const options = () => ({
  weights: new RandomWeights(7),
  report: () => undefined,
  signal: new AbortController().signal,
});
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-gguf-"));
  await writeGguf(path.join(folder, "model.gguf"), shape, options());
  file = await readFile(path.join(folder, "model.gguf"));
  gguf = new GgufReader(file);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("GGUF file", () => {
  it("says what llama.cpp has to know of a qwen2 model", () => {
    const expected: Record<string, unknown> = {
      "general.architecture": "qwen2",
      "general.file_type": 1,
      "qwen2.block_count": 2,
      "qwen2.embedding_length": 128,
      "qwen2.feed_forward_length": 384,
      "qwen2.attention.head_count": 4,
      "qwen2.attention.head_count_kv": 2,
      "qwen2.rope.freq_base": 1_000_000,
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "qwen2",
      "tokenizer.ggml.add_bos_token": false,
    };
    for (const [key, value] of Object.entries(expected)) {
      expect([key, gguf.metadata.get(key)]).toEqual([key, value]);
    }
    expect(gguf.metadata.get("qwen2.attention.layer_norm_rms_epsilon")).toBeCloseTo(1e-6, 12);
    expect(gguf.metadata.size).toBe(ggufMetadata(shape).size);
  });

  it("has a vocabulary of distinct names, 256 bytes among them", () => {
    const tokens = gguf.metadata.get("tokenizer.ggml.tokens") as string[];
    const types = gguf.metadata.get("tokenizer.ggml.token_type") as number[];
    expect([tokens.length, types.length]).toEqual([shape.vocabSize, shape.vocabSize]);
    expect(new Set(tokens).size).toBe(shape.vocabSize);
    expect(tokens.slice(0, 256).every((token) => token.length === 1)).toBe(true);
    // The space is U+0120 in byte-level BPE, the newline U+010A.
    expect([tokens[32], tokens[10], tokens[65]]).toEqual(["\u0120", "\u010a", "A"]);
    expect(tokens[gguf.metadata.get("tokenizer.ggml.eos_token_id") as number]).toMatch(/endoftext/);
    const merges = gguf.metadata.get("tokenizer.ggml.merges") as string[];
    for (const merge of merges) expect(tokens).toContain(merge.replace(" ", ""));
  });

  it("has every tensor of the model, fastest dimension first, norms and biases in f32", () => {
    const byName = new Map(gguf.tensors.map((tensor) => [tensor.name, tensor]));
    const expected: Record<string, [number[], number]> = {
      "token_embd.weight": [[128, 512], 1],
      "output_norm.weight": [[128], 0],
    };
    for (const layer of ["blk.0", "blk.1"]) {
      for (const [name, sizes, type] of [
        ["attn_norm.weight", [128], 0],
        ["attn_q.weight", [128, 128], 1],
        ["attn_q.bias", [128], 0],
        ["attn_k.weight", [128, 64], 1],
        ["attn_k.bias", [64], 0],
        ["attn_v.weight", [128, 64], 1],
        ["attn_v.bias", [64], 0],
        ["attn_output.weight", [128, 128], 1],
        ["ffn_norm.weight", [128], 0],
        ["ffn_gate.weight", [128, 384], 1],
        ["ffn_up.weight", [128, 384], 1],
        ["ffn_down.weight", [384, 128], 1],
      ] as const) {
        expected[`${layer}.${name}`] = [[...sizes], type];
      }
    }
    expect([...byName.keys()].sort()).toEqual(Object.keys(expected).sort());
    for (const [name, [sizes, type]] of Object.entries(expected)) {
      expect([name, byName.get(name)!.sizes, byName.get(name)!.type]).toEqual([name, sizes, type]);
    }
  });

  it("places tensors on 32 bytes, none over another, all within the file", () => {
    let end = 0;
    for (const { sizes, type, offset } of gguf.tensors) {
      expect(offset % 32).toBe(0);
      expect(offset).toBeGreaterThanOrEqual(end);
      end = offset + sizes.reduce((product, n) => product * n, type === 0 ? 4 : 2);
    }
    expect(file.length).toBeGreaterThanOrEqual(gguf.dataStart + end);
    expect(file.length - gguf.dataStart - end).toBeLessThan(32);
  });

  it("holds weights of the scale of an initialised model, rows of unlike size where asked for", () => {
    const deviation = (values: number[]): number =>
      Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    const gate = gguf.values("blk.0.ffn_gate.weight");
    expect(deviation(gate)).toBeGreaterThan(0.019);
    expect(deviation(gate)).toBeLessThan(0.021);
    const rowDeviations = (name: string): number[] => {
      const values = gguf.values(name);
      return Array.from({ length: 384 }, (_, row) =>
        deviation(values.slice(row * 128, (row + 1) * 128)),
      );
    };
    const spread = (of: number[]): number => Math.max(...of) / Math.min(...of);
    expect(spread(rowDeviations("blk.0.ffn_gate.weight"))).toBeLessThan(2);
    expect(spread(rowDeviations("blk.0.ffn_up.weight"))).toBeGreaterThan(4);
    expect(gguf.values("blk.0.attn_norm.weight").every((value) => value > 0)).toBe(true);
  });

  it("has the weights of the checkpoint, but for rounding", async () => {
    const checkpoint = path.join(folder, "checkpoint");
    await writeCheckpoint(checkpoint, shape, options());
    const bytes = await readFile(path.join(checkpoint, "model.safetensors"));
    const headerBytes = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString()) as Record<
      string,
      { data_offsets: [number, number] }
    >;
    for (const [hf, own] of [
      ["model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"],
      ["model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"],
      ["model.layers.1.self_attn.k_proj.bias", "blk.1.attn_k.bias"],
    ]) {
      const [begin, end] = header[hf].data_offsets.map((offset) => 8 + headerBytes + offset);
      const theirs = gguf.values(own);
      expect(end - begin).toBe(2 * theirs.length);
      theirs.forEach((value, i) => {
        // bf16 is the upper half of an f32.
        const bits = Buffer.alloc(4);
        bits.writeUInt16LE(bytes.readUInt16LE(begin + 2 * i), 2);
        // Half a unit of bf16's 8 bits, and of the subnormals of f16.
        expect(Math.abs(bits.readFloatLE() - value)).toBeLessThanOrEqual(
          2 ** -8 * Math.abs(value) + 2 ** -24,
        );
      });
    }
  });

  it("follows from the seed alone", async () => {
    await writeGguf(path.join(folder, "again.gguf"), shape, options());
    expect(Buffer.from(file).equals(await readFile(path.join(folder, "again.gguf")))).toBe(true);
    const other = { ...options(), weights: new RandomWeights(8) };
    await writeGguf(path.join(folder, "other.gguf"), shape, other);
    expect(Buffer.from(file).equals(await readFile(path.join(folder, "other.gguf")))).toBe(false);
  });

  it("leaves nothing behind when it is stopped", async () => {
    const stopped = path.join(folder, "stopped.gguf");
    const signal = AbortSignal.abort();
    await expect(writeGguf(stopped, shape, { ...options(), signal })).rejects.toThrow(/abort/i);
    expect((await readdir(folder)).filter((name) => name.startsWith("stopped"))).toEqual([]);
  });
});

describe("model shapes", () => {
  it("have the sizes of the real models", () => {
    // 494 million and 7.6 thousand million weights, as the model cards say.
    expect(modelBytes(SHAPES["0.5b"]) / 2 / 1e6).toBeCloseTo(494.0, 0);
    expect(modelBytes(SHAPES["7b"]) / 2 / 1e9).toBeCloseTo(7.62, 1);
  });

  it("say where a part is not the whole", () => {
    expect("note" in SHAPES["0.5b"]).toBe(false);
    expect(SHAPES["0.5b-part"].note).toMatch(/8 of its 24 layers/);
    expect(SHAPES["7b-part"].note).toMatch(/6 of its 28 layers.*32576 instead of 152064/);
  });
});
