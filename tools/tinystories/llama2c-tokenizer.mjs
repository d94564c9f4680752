/**
 * Reads llama2.c's tokenizer file and writes the same tokenizer in Hugging Face's format. The file has an int32 (the
 * longest token, bytes), then for each token its score (float32), length (int32) and UTF-8 bytes; a space stands for
 * SentencePiece's "\u2581".
 */

const SPACE = "\u2581";
const SPECIALS = ["<unk>", "<s>", "</s>"];
const BYTES = 256;

/** @returns {{ piece: string, score: number }[]} by token id. */
export function readLlama2cTokenizer(bytes, vocabSize) {
  const tokens = [];
  let at = 4;
  for (let id = 0; id < vocabSize; id++) {
    const score = bytes.readFloatLE(at);
    const lengthBytes = bytes.readInt32LE(at + 4);
    const text = bytes.toString("utf8", at + 8, at + 8 + lengthBytes);
    at += 8 + lengthBytes;
    tokens.push({ piece: pieceOf(id, text), score });
  }
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes follow the last token`);
  return tokens;
}

/** The first tokens are the special ones, then every byte, which the file spells as the character of that number. */
function pieceOf(id, text) {
  if (id < SPECIALS.length) return SPECIALS[id];
  const byte = id - SPECIALS.length;
  if (byte < BYTES) return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
  return text.replaceAll(" ", SPACE);
}

/**
 * Merges in order: llama2.c always joins the neighbours whose union has the best score, so the rank of a merge is the
 * score of its result, whatever its halves. Halves of one result are ordered by token id.
 */
function mergesOf(tokens) {
  const ids = new Map(tokens.map(({ piece }, id) => [piece, id]));
  const firstMergeable = SPECIALS.length + BYTES;
  const merges = [];
  for (let id = firstMergeable; id < tokens.length; id++) {
    const characters = [...tokens[id].piece];
    for (let split = 1; split < characters.length; split++) {
      const left = characters.slice(0, split).join("");
      const right = characters.slice(split).join("");
      if (!ids.has(left) || !ids.has(right)) continue;
      const order = [ids.get(left), ids.get(right)];
      merges.push({ left, right, score: tokens[id].score, order });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.order[0] - b.order[0] || a.order[1] - b.order[1]);
  return merges.map(({ left, right }) => [left, right]);
}

/** tokenizer.json: BPE with byte fallback, a space in front of the text, `<s>` before everything. */
export function tokenizerJson(tokens) {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIALS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: SPACE },
        { type: "Replace", pattern: { String: " " }, content: SPACE },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [
        { SpecialToken: { id: "<s>", type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
        { SpecialToken: { id: "<s>", type_id: 1 } },
        { Sequence: { id: "B", type_id: 1 } },
      ],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: SPACE }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: "<unk>",
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map(({ piece }, id) => [piece, id])),
      merges: mergesOf(tokens),
    },
  };
}

/**
 * llama2.c's own tokenizer, step by step: characters (or bytes of unknown ones), then the best merge again and again.
 * Slow and plain: the witness that the converted tokenizer is the same.
 * @returns {number[]} token ids, `<s>` first.
 */
export function encodeAsLlama2c(tokens, text) {
  const ids = new Map(tokens.map(({ piece }, id) => [piece, id]));
  const encoded = [];
  for (const character of text === "" ? "" : SPACE + text.replaceAll(" ", SPACE)) {
    const id = ids.get(character);
    if (id !== undefined) encoded.push(id);
    else for (const byte of Buffer.from(character)) encoded.push(byte + SPECIALS.length);
  }
  for (;;) {
    let best = { score: -Infinity, at: -1, id: -1 };
    for (let at = 0; at + 1 < encoded.length; at++) {
      const id = ids.get(tokens[encoded[at]].piece + tokens[encoded[at + 1]].piece);
      if (id !== undefined && tokens[id].score > best.score)
        best = { score: tokens[id].score, at, id };
    }
    if (best.at < 0) return [1, ...encoded];
    encoded.splice(best.at, 2, best.id);
  }
}
