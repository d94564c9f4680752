import { mkdir, open, rename, rm, writeFile, type FileHandle } from "node:fs/promises";
import path from "node:path";
import type { ReportProgress } from "../../terminal/progress";
import { minimalVocabulary } from "./ggml-vocabulary";
import { layOutGguf, type GgufTensor, type GgufValue } from "./gguf";
import {
  checkpointConfig,
  MAX_POSITIONS,
  modelTensors,
  RMS_NORM_EPSILON,
  ROPE_BASE,
  type ModelShape,
  type WeightTensor,
} from "./model-shape";
import type { RandomWeights, WeightDtype } from "./random-weights";

/** GGUF's `general.file_type` for mostly F16. */
const MOSTLY_F16 = 1;

export interface WriteOptions {
  readonly weights: RandomWeights;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

interface Piece {
  readonly tensor: WeightTensor;
  readonly dtype: WeightDtype;
  readonly offsetBytes: number;
}

const isVector = ({ shape }: WeightTensor): boolean => shape.length === 1;

/** Writes a Hugging Face checkpoint of random bf16 weights into an existing folder. */
export async function writeCheckpoint(
  folder: string,
  shape: ModelShape,
  options: WriteOptions,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  const tensors = modelTensors(shape);
  let end = 0;
  const begins = tensors.map((tensor) => {
    const begin = end;
    end += tensor.shape.reduce((product, n) => product * n, 2);
    header[tensor.checkpointName] = {
      dtype: "BF16",
      shape: tensor.shape,
      data_offsets: [begin, end],
    };
    return begin;
  });
  const json = JSON.stringify(header);
  // The format wants data at a multiple of 8, reached by blanks after the JSON.
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const head = Buffer.concat([Buffer.alloc(8), text]);
  head.writeBigUInt64LE(BigInt(text.length));
  const pieces = tensors.map((tensor, index): Piece => ({
    tensor,
    dtype: "bf16",
    offsetBytes: head.length + begins[index],
  }));
  const file = path.join(folder, "model.safetensors");
  await writeWeights(file, head, head.length + end, pieces, options);
  await writeFile(path.join(folder, "config.json"), JSON.stringify(checkpointConfig(shape)));
}

/** What llama.cpp's `qwen2` architecture reads. */
export function ggufMetadata(shape: ModelShape): Map<string, GgufValue> {
  const uint32 = (value: number): GgufValue => ({ type: "uint32", value });
  return new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: "qwen2" }],
    ["general.name", { type: "string", value: `${shape.name}, random weights` }],
    ["general.file_type", uint32(MOSTLY_F16)],
    ["qwen2.block_count", uint32(shape.layers)],
    ["qwen2.context_length", uint32(MAX_POSITIONS)],
    ["qwen2.embedding_length", uint32(shape.hiddenSize)],
    ["qwen2.feed_forward_length", uint32(shape.intermediateSize)],
    ["qwen2.attention.head_count", uint32(shape.heads)],
    ["qwen2.attention.head_count_kv", uint32(shape.kvHeads)],
    ["qwen2.attention.layer_norm_rms_epsilon", { type: "float32", value: RMS_NORM_EPSILON }],
    ["qwen2.rope.freq_base", { type: "float32", value: ROPE_BASE }],
    ["qwen2.vocab_size", uint32(shape.vocabSize)],
    ...minimalVocabulary(shape.vocabSize),
  ]);
}

/** Matrices in f16, vectors in f32, as llama.cpp's own converter writes them. */
export function ggufTensors(shape: ModelShape): GgufTensor[] {
  return modelTensors(shape).map((tensor) => ({
    name: tensor.ggufName,
    shape: tensor.shape,
    dtype: isVector(tensor) ? "f32" : "f16",
  }));
}

/** Writes a GGUF file of random weights. */
export async function writeGguf(
  file: string,
  shape: ModelShape,
  options: WriteOptions,
): Promise<void> {
  const { head, offsetsBytes, fileBytes } = layOutGguf(ggufMetadata(shape), ggufTensors(shape));
  const pieces = modelTensors(shape).map((tensor, index): Piece => ({
    tensor,
    dtype: isVector(tensor) ? "f32" : "f16",
    offsetBytes: offsetsBytes[index],
  }));
  await writeWeights(file, head, fileBytes, pieces, options);
}

/** Writes under another name and renames, so that a name stands for a whole file. */
async function writeWeights(
  file: string,
  head: Buffer,
  fileBytes: number,
  pieces: readonly Piece[],
  options: WriteOptions,
): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  const handle = await open(temporary, "w");
  try {
    await handle.truncate(fileBytes);
    await writeAt(handle, head, 0);
    for (const piece of pieces) await writePiece(handle, piece, fileBytes, options);
    // A page that is not yet on the disk cannot be dropped from the page cache.
    await handle.sync();
    await handle.close();
    await rename(temporary, file);
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
}

async function writePiece(
  handle: FileHandle,
  { tensor, dtype, offsetBytes }: Piece,
  fileBytes: number,
  { weights, report, signal }: WriteOptions,
): Promise<void> {
  let at = offsetBytes;
  for (const block of weights.bytes(tensor, dtype)) {
    signal.throwIfAborted();
    await writeAt(handle, block, at);
    at += block.length;
    report(at / fileBytes, "writing random weights, once");
  }
}

async function writeAt(handle: FileHandle, bytes: Uint8Array, offsetBytes: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(
      bytes,
      done,
      bytes.length - done,
      offsetBytes + done,
    );
    done += bytesWritten;
  }
}
