import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { VlmExecutorError } from "../errors.js";
import { readOptionalJson } from "./checkpoint-json.js";

export interface EncodeOptions {
  /** Whether the tokenizer adds what it puts around a text, such as a begin-of-text token. Default true. */
  readonly addSpecialTokens?: boolean;
}

export interface DecodeTextOptions {
  /** Leave out special tokens such as `<|im_end|>`. Default true. */
  readonly skipSpecialTokens?: boolean;
}

/** Text to token ids and back, by the checkpoint's own tokenizer. */
export interface TextCodec {
  encode(text: string, options?: EncodeOptions): number[];
  /** Ids that the tokenizer does not know are left out; bytes that make no character become U+FFFD. */
  decode(ids: readonly number[], options?: DecodeTextOptions): string;
  /** The id of one token as it is written, for example `<image>`. */
  tokenId(token: string): number | undefined;
  /** Ids of special tokens. */
  readonly specialIds: ReadonlySet<number>;
  /** `bos_token`, `eos_token` and the like, as chat templates use them. */
  readonly specialTokens: Readonly<Record<string, string>>;
}

const NAMED_SPECIAL_TOKENS = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
];

/**
 * Loads `tokenizer.json` (and `tokenizer_config.json` beside it) of a model directory.
 *
 * @throws VlmExecutorError `TOKENIZER_MISSING` or `TOKENIZER_INVALID` (with `path`)
 */
export async function loadTokenizer(directory: string): Promise<TextCodec> {
  const [model, config = {}] = await Promise.all([
    readOptionalJson(directory, "tokenizer.json"),
    readOptionalJson(directory, "tokenizer_config.json"),
  ]);
  const path = join(directory, "tokenizer.json");
  if (model === undefined) {
    throw new VlmExecutorError(
      "TOKENIZER_MISSING",
      `"${path}" is missing. Copy it from the checkpoint; slow tokenizers without that file are not supported.`,
      { path },
    );
  }
  try {
    return new HuggingFaceCodec(new Tokenizer(model, config), model, config);
  } catch (cause) {
    throw new VlmExecutorError(
      "TOKENIZER_INVALID",
      `"${path}" does not describe a tokenizer that can be used here: ${String((cause as Error).message)}`,
      { path, cause },
    );
  }
}

class HuggingFaceCodec implements TextCodec {
  readonly specialIds: ReadonlySet<number>;
  readonly specialTokens: Readonly<Record<string, string>>;
  private readonly cleanUp: boolean;

  constructor(
    private readonly tokenizer: Tokenizer,
    model: Record<string, unknown>,
    config: Record<string, unknown>,
  ) {
    const added = Array.isArray(model["added_tokens"]) ? (model["added_tokens"] as unknown[]) : [];
    this.specialIds = new Set(
      added
        .filter((token): token is { id: number; special: true } => isSpecial(token))
        .map(({ id }) => id),
    );
    this.specialTokens = namedSpecialTokens(config);
    this.cleanUp = config["clean_up_tokenization_spaces"] === true;
  }

  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    return this.tokenizer.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  }

  decode(ids: readonly number[], { skipSpecialTokens = true }: DecodeTextOptions = {}): string {
    const known = ids.filter((id) => this.tokenizer.id_to_token(id) !== undefined);
    if (known.length === 0) return "";
    return this.tokenizer.decode(known, {
      skip_special_tokens: skipSpecialTokens,
      clean_up_tokenization_spaces: this.cleanUp,
    });
  }

  tokenId(token: string): number | undefined {
    return this.tokenizer.token_to_id(token);
  }
}

function isSpecial(token: unknown): boolean {
  return (
    typeof token === "object" &&
    token !== null &&
    (token as { special?: unknown }).special === true &&
    Number.isSafeInteger((token as { id?: unknown }).id)
  );
}

/** Each is a string, or an object with its `content`, as older configs have it. */
function namedSpecialTokens(config: Record<string, unknown>): Record<string, string> {
  const named: Record<string, string> = {};
  for (const name of NAMED_SPECIAL_TOKENS) {
    const value = config[name];
    const text =
      typeof value === "object" && value !== null
        ? (value as { content?: unknown }).content
        : value;
    if (typeof text === "string") named[name] = text;
  }
  return named;
}
