import type { GgufValue } from "./gguf";

/** Numbers of llama.cpp's token types. */
const TOKEN_TYPE = { normal: 1, control: 3 } as const;

/**
 * Byte-level BPE writes each byte as one printable character: printable Latin-1 ones as they are, the others from
 * U+0100 on, in order.
 */
function byteCharacters(): string[] {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(isPrintable(byte) ? byte : next++),
  );
}

/**
 * The smallest tokenizer llama.cpp loads a `qwen2` model with: bytes, one merge, an end-of-text token, and names that
 * no text has for the rest of the vocabulary. The bench feeds token numbers, so nothing is ever encoded with it.
 * @param vocabSize At least 258.
 */
export function minimalVocabulary(vocabSize: number): Map<string, GgufValue> {
  const named = [...byteCharacters(), "ab", "<|endoftext|>"];
  const endOfText = named.length - 1;
  const tokens = Array.from({ length: vocabSize }, (_, id) => named[id] ?? `<|unused-${id}|>`);
  const types = tokens.map((_, id) => (id < endOfText ? TOKEN_TYPE.normal : TOKEN_TYPE.control));
  const uint32 = (value: number): GgufValue => ({ type: "uint32", value });
  return new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: "qwen2" }],
    ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "int32s", value: types }],
    ["tokenizer.ggml.merges", { type: "strings", value: ["a b"] }],
    ["tokenizer.ggml.eos_token_id", uint32(endOfText)],
    ["tokenizer.ggml.padding_token_id", uint32(endOfText)],
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: false }],
  ]);
}
