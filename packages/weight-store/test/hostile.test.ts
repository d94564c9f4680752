import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { convertCheckpoint } from "../src/convert.js";
import type { WeightStoreErrorCode } from "../src/errors.js";
import {
  safetensorsBytes,
  tensorOf,
  TINY,
  tinyConfig,
  tinyTensors,
  writeCheckpoint,
  type RawTensors,
  type TinyModel,
} from "./helpers/checkpoint.js";
import { contents, expectCode, workDirectory } from "./helpers/workdir.js";

const root = workDirectory();
const checkpointDir = join(root, "checkpoint");
const parent = join(root, "out");
const outputDir = join(parent, "image");
const weights = join(checkpointDir, "model.safetensors");
const index = join(checkpointDir, "model.safetensors.index.json");
const config = join(checkpointDir, "config.json");

beforeEach(() => {
  rmSync(checkpointDir, { recursive: true, force: true });
  rmSync(parent, { recursive: true, force: true });
  mkdirSync(parent);
});

/** Expects a conversion to fail with this code and to leave nothing on the disk. */
async function refuses(code: WeightStoreErrorCode, ...mentions: string[]): Promise<void> {
  await expectCode(convertCheckpoint({ checkpointDir, outputDir }), code, ...mentions);
  expect(readdirSync(parent)).toEqual([]);
}

function writeIndex(weightMap: unknown): void {
  writeFileSync(index, JSON.stringify({ metadata: {}, weight_map: weightMap }));
}

describe("a checkpoint directory is refused", () => {
  it("that does not exist, or is a file", async () => {
    await refuses("NOT_FOUND", checkpointDir);
    writeFileSync(checkpointDir, "");
    await refuses("NOT_FOUND", "directory");
  });

  it("without config.json", async () => {
    writeCheckpoint(checkpointDir, TINY);
    rmSync(config);
    await refuses("NOT_FOUND", "config.json");
  });

  it("without weights, saying what it has instead", async () => {
    writeCheckpoint(checkpointDir, TINY);
    renameSync(weights, join(checkpointDir, "pytorch_model.bin"));
    await refuses("NOT_FOUND", "save_pretrained");
  });

  it("whose weights are a directory or a pipe", async () => {
    writeCheckpoint(checkpointDir, TINY);
    rmSync(weights);
    mkdirSync(weights);
    await refuses("UNSAFE_PATH", "regular file");
    rmSync(weights, { recursive: true });
    execFileSync("mkfifo", [weights]);
    await refuses("UNSAFE_PATH", "regular file");
  });
});

describe("config.json is refused", () => {
  const decoder = tinyConfig(TINY);
  const llava = tinyConfig({ ...TINY, family: "llava_onevision" });

  it.each([
    ["that is not JSON", "{", "INVALID_CONFIG", "JSON"],
    ["that is an array", "[]", "INVALID_CONFIG", "object"],
    ["that is binary", "\u0000\u0001", "INVALID_CONFIG", "JSON"],
    ["without a model type", {}, "INVALID_CONFIG", "model_type"],
    [
      "of another architecture",
      { ...decoder, model_type: "mamba" },
      "UNSUPPORTED_ARCHITECTURE",
      "mamba",
    ],
    [
      "of another architecture",
      { model_type: "gemma3" },
      "UNSUPPORTED_ARCHITECTURE",
      "llava_onevision, qwen2, llama",
    ],
    [
      "that is quantized",
      { ...decoder, quantization_config: {} },
      "UNSUPPORTED_ARCHITECTURE",
      "quantized",
    ],
    ["with MLP biases", { ...decoder, mlp_bias: true }, "UNSUPPORTED_ARCHITECTURE", "mlp_bias"],
    ["with a size of 0", { ...decoder, hidden_size: 0 }, "INVALID_CONFIG", "hidden_size"],
    [
      "with a negative size",
      { ...decoder, intermediate_size: -8 },
      "INVALID_CONFIG",
      "intermediate_size",
    ],
    [
      "with a fraction",
      { ...decoder, num_hidden_layers: 1.5 },
      "INVALID_CONFIG",
      "num_hidden_layers",
    ],
    ["with a string", { ...decoder, vocab_size: "50" }, "INVALID_CONFIG", "vocab_size"],
    [
      "with 10^9 layers",
      { ...decoder, num_hidden_layers: 1e9 },
      "INVALID_CONFIG",
      "num_hidden_layers",
    ],
    ["with a giant width", { ...decoder, hidden_size: 2 ** 40 }, "INVALID_CONFIG", "hidden_size"],
    [
      "with heads that no groups divide",
      { ...decoder, num_key_value_heads: 3 },
      "INVALID_CONFIG",
      "num_key_value_heads",
    ],
    [
      "with no width for a head",
      { ...decoder, head_dim: null, num_attention_heads: 5, num_key_value_heads: 5 },
      "INVALID_CONFIG",
      "hidden_size",
    ],
    [
      "with a flag that is none",
      { ...decoder, tie_word_embeddings: "no" },
      "INVALID_CONFIG",
      "tie_word_embeddings",
    ],
    [
      "without its text part",
      { ...llava, text_config: undefined },
      "INVALID_CONFIG",
      "text_config",
    ],
    [
      "with another text model",
      { ...llava, text_config: { model_type: "llama" } },
      "UNSUPPORTED_ARCHITECTURE",
      "text_config",
    ],
    [
      "with another vision model",
      { ...llava, vision_config: { model_type: "clip_vision_model" } },
      "UNSUPPORTED_ARCHITECTURE",
      "clip_vision_model",
    ],
    [
      "with a nested error",
      { ...llava, vision_config: { patch_size: 0 } },
      "INVALID_CONFIG",
      "vision_config.patch_size",
    ],
  ] as const)("%s", async (_, content, code, mention) => {
    writeCheckpoint(checkpointDir, TINY);
    writeFileSync(config, typeof content === "string" ? content : JSON.stringify(content));
    await refuses(code, mention);
  });
});

describe("weights are refused", () => {
  const spoiled = (change: (tensors: RawTensors) => void, model: TinyModel = TINY) => {
    const tensors = tinyTensors(model);
    change(tensors);
    writeCheckpoint(checkpointDir, model, { tensors });
  };

  it("that are cut short", async () => {
    writeCheckpoint(checkpointDir, TINY);
    const bytes = safetensorsBytes(tinyTensors(TINY)).length;
    for (const keep of [bytes - 1, 4000, 100, 4, 0]) {
      truncateSync(weights, keep);
      await refuses("TRUNCATED", weights);
    }
  });

  it("that lack tensors, naming them", async () => {
    spoiled((tensors) => {
      delete tensors["model.layers.1.mlp.up_proj.weight"];
      delete tensors["model.norm.weight"];
    });
    await refuses("MISSING_TENSOR", "decoder.layers.1.mlp.up_proj.weight", "decoder.norm.weight");
  });

  it("of fewer layers than configured, naming only some", async () => {
    writeCheckpoint(checkpointDir, TINY, {
      config: { ...tinyConfig(TINY), num_hidden_layers: 500 },
    });
    await refuses("MISSING_TENSOR", "more");
  });

  it("with tensors the architecture does not have, naming them", async () => {
    spoiled((tensors) => {
      tensors["model.layers.0.self_attn.q_proj.lora_A.weight"] = tensorOf("x", "BF16", [2, 24]);
    });
    await refuses("UNEXPECTED_TENSOR", "lora_A");
    spoiled((tensors) => {
      tensors["model.layers.7.mlp.up_proj.weight"] = tensorOf("x", "BF16", [40, 24]);
    });
    await refuses("UNEXPECTED_TENSOR", "layers.7");
  });

  it("whose shapes are not those of the configuration", async () => {
    spoiled((tensors) => {
      tensors["model.layers.0.mlp.down_proj.weight"] = tensorOf("x", "BF16", [40, 24]);
    });
    await refuses("SHAPE_MISMATCH", "down_proj", "[40, 24]", "[24, 40]");
    spoiled((tensors) => {
      tensors["model.norm.weight"] = tensorOf("x", "BF16", [24, 1]);
    });
    await refuses("SHAPE_MISMATCH", "model.norm.weight");
  });

  it("of a dtype that is not converted, or that differs within a bundle", async () => {
    spoiled((tensors) => {
      tensors["model.norm.weight"] = { dtype: "F64", shape: [24], bytes: new Uint8Array(192) };
    });
    await refuses("UNSUPPORTED_DTYPE", "F64", "model.norm.weight");
    spoiled((tensors) => {
      tensors["model.layers.0.mlp.up_proj.weight"] = tensorOf("x", "F32", [40, 24]);
    });
    await refuses("UNSUPPORTED_DTYPE", "up_proj");
  });

  it("that hold one tensor under two names", async () => {
    spoiled((tensors) => {
      tensors["layers.0.mlp.up_proj.weight"] = tensorOf("x", "BF16", [40, 24]);
    });
    await refuses("DUPLICATE_NAME", "up_proj");
  });

  it("whose header lies about offsets", async () => {
    writeCheckpoint(checkpointDir, TINY);
    const edit = (change: (entry: { data_offsets: number[] }) => void) =>
      writeFileSync(
        weights,
        safetensorsBytes(tinyTensors(TINY), (header) => {
          change(header["model.norm.weight"] as { data_offsets: number[] });
        }),
      );
    edit(({ data_offsets }) => data_offsets.fill(0));
    await refuses("SHAPE_MISMATCH");
    edit((entry) => (entry.data_offsets = entry.data_offsets.map((at) => at - 2)));
    await refuses("INVALID_OFFSETS", "overlaps");
    edit((entry) => (entry.data_offsets = entry.data_offsets.map((at) => at + 2 ** 40)));
    await refuses("INVALID_OFFSETS", "gap");
  });
});

describe("an index is refused", () => {
  it.each([
    ["an absolute path", "/etc/passwd.safetensors"],
    ["a parent directory", "../model.safetensors"],
    ["a subdirectory", "sub/model.safetensors"],
    ["a backslash", "..\\model.safetensors"],
    ["a drive", "C:model.safetensors"],
    ["a NUL", "model\0.safetensors"],
    ["a hidden file", ".model.safetensors"],
    ["another kind of file", "config.json"],
    ["the empty name", ""],
    ["a very long name", `${"a".repeat(300)}.safetensors`],
  ])("that names %s", async (_, file) => {
    const tensors = writeCheckpoint(checkpointDir, TINY);
    rmSync(weights);
    writeIndex(Object.fromEntries(Object.keys(tensors).map((name) => [name, file])));
    await refuses("UNSAFE_PATH", "weight_map");
  });

  it.each([
    ["without a weight_map", {}],
    ["with an empty one", { weight_map: {} }],
    ["with an array", { weight_map: ["a"] }],
    ["with numbers", { weight_map: { a: 1 } }],
    [
      "with too many files",
      {
        weight_map: Object.fromEntries(
          Array.from({ length: 5000 }, (_, i) => [`t${i}`, `m${i}.safetensors`]),
        ),
      },
    ],
  ])("%s", async (_, content) => {
    writeCheckpoint(checkpointDir, TINY);
    rmSync(weights);
    writeFileSync(index, JSON.stringify(content));
    await refuses("INVALID_INDEX");
  });

  it("that is not JSON", async () => {
    writeCheckpoint(checkpointDir, TINY, { shards: 2 });
    truncateSync(index, 20);
    await refuses("INVALID_INDEX", "JSON");
  });

  it("whose file is missing, or lacks a promised tensor, or holds another", async () => {
    writeCheckpoint(checkpointDir, TINY, { shards: 2 });
    const second = join(checkpointDir, "model-00002-of-00002.safetensors");
    const tensors = tinyTensors(TINY);
    const names = Object.keys(tensors).filter((_, at) => at % 2 === 1);
    const some = (keep: string[]) =>
      writeFileSync(
        second,
        safetensorsBytes(Object.fromEntries(keep.map((name) => [name, tensors[name]]))),
      );
    rmSync(second);
    await refuses("NOT_FOUND", second);
    some(names.slice(1));
    await refuses("MISSING_TENSOR", names[0]);
    some([...names, "model.embed_tokens.weight"]);
    await refuses("INVALID_INDEX", "model.embed_tokens.weight");
  });

  it("that points through a link out of the directory; a Hugging Face cache is not that", async () => {
    const tensors = writeCheckpoint(checkpointDir, TINY);
    const elsewhere = join(root, "elsewhere.safetensors");
    renameSync(weights, elsewhere);
    symlinkSync(elsewhere, weights);
    await refuses("UNSAFE_PATH", "symbolic link");
    rmSync(weights);
    symlinkSync("model.safetensors", weights);
    await refuses("IO_ERROR");
    rmSync(weights);
    symlinkSync("absent", weights);
    await refuses("NOT_FOUND");

    const repository = join(root, "models--some--model");
    const snapshot = join(repository, "snapshots", "0123abc");
    writeCheckpoint(snapshot, TINY, { tensors });
    mkdirSync(join(repository, "blobs"));
    renameSync(join(snapshot, "model.safetensors"), join(repository, "blobs", "sha"));
    symlinkSync("../../blobs/sha", join(snapshot, "model.safetensors"));
    await convertCheckpoint({ checkpointDir: snapshot, outputDir });
    expect(existsSync(outputDir)).toBe(true);
  });

  it("unless single file and index are both there: then the file counts, as in transformers", async () => {
    writeCheckpoint(checkpointDir, TINY);
    writeFileSync(index, "nonsense");
    await convertCheckpoint({ checkpointDir, outputDir });
    expect(Object.keys(contents(outputDir))).toContain("manifest.json");
  });
});

describe("other files", () => {
  it("that are links out of the directory are refused", async () => {
    writeCheckpoint(checkpointDir, TINY);
    rmSync(join(checkpointDir, "tokenizer.json"));
    symlinkSync("/etc/hostname", join(checkpointDir, "tokenizer.json"));
    await refuses("UNSAFE_PATH", "tokenizer.json");
  });

  it("at the output that are no flash image are left alone", async () => {
    writeCheckpoint(checkpointDir, TINY);
    mkdirSync(outputDir);
    writeFileSync(join(outputDir, "precious.txt"), "data");
    for (const overwrite of [false, true]) {
      const conversion = convertCheckpoint({ checkpointDir, outputDir, overwrite });
      await expectCode(conversion, "OUTPUT_EXISTS");
    }
    expect(readdirSync(outputDir)).toEqual(["precious.txt"]);
    expect(readdirSync(parent)).toEqual(["image"]);
  });

  it("an empty output directory is used", async () => {
    writeCheckpoint(checkpointDir, TINY);
    mkdirSync(outputDir);
    await convertCheckpoint({ checkpointDir, outputDir });
    expect(readdirSync(parent)).toEqual(["image"]);
  });

  it("a checkpoint that changes meanwhile is noticed", async () => {
    writeCheckpoint(checkpointDir, TINY);
    const conversion = convertCheckpoint({
      checkpointDir,
      outputDir,
      onProgress: ({ item }) => {
        if (item === "layers.1.mlp_in")
          writeFileSync(config, JSON.stringify(tinyConfig(TINY), null, 1));
      },
    });
    await expectCode(conversion, "SOURCE_CHANGED", "config.json");
    expect(readdirSync(parent)).toEqual([]);
  });
});
