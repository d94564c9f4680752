import type { ModelConfig } from "./config.js";
import { patchesPerTile } from "./config.js";

const MIB = 2 ** 20;
const F32_BYTES = Float32Array.BYTES_PER_ELEMENT;

/**
 * Bounds of what the account cannot read off the model's shapes. Each was measured in child processes (resident set, Node 20,
 * 22 and 24) and rounded up; nchunk's `test/memory-budget.test.ts` holds whole runs against them.
 */

/** Node, its code and ours, the native libraries and their threads, before anything of a model is loaded. */
const PROCESS_BYTES = 56 * MIB;
/** Objects and garbage of a run on V8's heap beside the tokenizer's: passes, traces, plans, a young generation kept small. */
const HEAP_BYTES = 20 * MIB;
/** What V8 lets its heap grow to while much is parsed: garbage, and a young generation of full size. */
const PARSING_HEAP_BYTES = 32 * MIB;
/** A tokenizer's tables, per byte of `tokenizer.json`, collected but with holes between them. */
const TOKENIZER_KEPT_PER_BYTE = 12;
/** The same while the file is parsed: its text, its JSON and the tables side by side. */
const TOKENIZER_PARSED_PER_BYTE = 26;
/** libvips and its codecs: code, and what its allocator keeps. */
const DECODER_LIBRARY_BYTES = 24 * MIB;
/** A picture while it is decoded, per pixel: its file, the decoder's own planes, RGB out, and a copy turned or converted. */
const DECODED_BYTES_PER_PIXEL = 20;
/** Rings, submission tables and views of a reader. */
const READER_BYTES = 2 * MIB;
/** Partial sums that a kernel keeps of each output at most (`native/kernels`). */
const KERNEL_SLICES = 16;
/** Panels of weights that compute threads convert, all together. */
const KERNEL_PANEL_BYTES = 8 * MIB;

/** Sizes of a model directory's own files that decide what reading them takes. */
export interface InputFileSizes {
  /** 0 where there is none. */
  readonly tokenizerBytes: number;
}

/** Bytes of the process itself. */
export function processBytes({ multimodal }: ModelConfig): number {
  return PROCESS_BYTES + READER_BYTES + (multimodal === undefined ? 0 : DECODER_LIBRARY_BYTES);
}

/** V8's heap of a run, the tokenizer included. */
export function heapBytes({ tokenizerBytes }: InputFileSizes): number {
  return HEAP_BYTES + TOKENIZER_KEPT_PER_BYTE * tokenizerBytes;
}

/** What opening needs for a moment, before weights are loaded, over the process's own bytes. */
export function parsingBytes({ tokenizerBytes }: InputFileSizes): number {
  return PARSING_HEAP_BYTES + TOKENIZER_PARSED_PER_BYTE * tokenizerBytes;
}

/** Decoding one picture of at most `pixels`. */
export function decodingBytes(pixels: number): number {
  return DECODED_BYTES_PER_PIXEL * pixels;
}

/** Working memory that the kernels keep between calls: a packed input, partial sums, panels of weights. */
export function kernelScratchBytes(
  { decoder, multimodal }: ModelConfig,
  blockTokens: number,
): number {
  const { hiddenSize, intermediateSize, headCount, headDim } = decoder;
  const vision = multimodal?.vision;
  const packed = Math.max(
    blockTokens * Math.max(hiddenSize, intermediateSize, headCount * headDim),
    vision === undefined ? 0 : patchesPerTile(vision) * vision.intermediateSize,
  );
  const partials = KERNEL_SLICES * 2 * intermediateSize;
  return (packed + partials) * F32_BYTES + KERNEL_PANEL_BYTES;
}
