import { Template } from "@huggingface/jinja";
import { VlmExecutorError } from "../errors.js";
import { readOptionalJson, readOptionalText } from "./checkpoint-json.js";

/** A part of a message. A picture's or clip's pixels are passed beside the messages, in the same order. */
export type ChatPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image" }
  | { readonly type: "video" };

export interface ChatMessage {
  /** `system`, `user` or `assistant`, as the template knows them. */
  readonly role: string;
  readonly content: string | readonly ChatPart[];
}

export interface RenderChatOptions {
  /** Whether to end with what opens the assistant's answer. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** More variables for the template, for example `tools`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** A checkpoint's chat template. */
export class ChatTemplate {
  private readonly template: Template;

  /**
   * @param source Jinja
   * @param specialTokens `bos_token`, `eos_token` and the like, for templates that write them
   * @throws VlmExecutorError `CHAT_TEMPLATE_FAILED` when the source cannot be parsed
   */
  constructor(
    readonly source: string,
    private readonly specialTokens: Readonly<Record<string, string>> = {},
  ) {
    try {
      this.template = new Template(source);
    } catch (cause) {
      throw failed("cannot be parsed", cause);
    }
  }

  /**
   * The prompt of a conversation, with one placeholder per picture or clip.
   *
   * @throws VlmExecutorError `CHAT_TEMPLATE_FAILED` when the template refuses the messages
   */
  render(
    messages: readonly ChatMessage[],
    { addGenerationPrompt = true, variables = {} }: RenderChatOptions = {},
  ): string {
    try {
      return this.template.render({
        ...this.specialTokens,
        tools: null,
        documents: null,
        ...variables,
        messages,
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (cause) {
      throw failed("refused the messages", cause);
    }
  }
}

/** {@link ChatTemplate.render} for a template that may be absent. */
export function renderChat(
  template: ChatTemplate | undefined,
  messages: readonly ChatMessage[],
  options?: RenderChatOptions,
): string {
  if (template !== undefined) return template.render(messages, options);
  throw new VlmExecutorError(
    "CHAT_TEMPLATE_MISSING",
    "This checkpoint has no chat template (chat_template.jinja, chat_template.json or in tokenizer_config.json). Pass a prompt as it is.",
  );
}

/**
 * Finds the chat template of a model directory: `chat_template.jinja`, else `chat_template.json`, else the one in
 * `tokenizer_config.json` (the one named `default` of several).
 *
 * @returns undefined when there is none
 * @throws VlmExecutorError `CHAT_TEMPLATE_FAILED` when it cannot be parsed
 */
export async function loadChatTemplate(
  directory: string,
  specialTokens: Readonly<Record<string, string>> = {},
): Promise<ChatTemplate | undefined> {
  const source =
    (await readOptionalText(directory, "chat_template.jinja")) ??
    templateIn(await readOptionalJson(directory, "chat_template.json")) ??
    templateIn(await readOptionalJson(directory, "tokenizer_config.json"));
  return source === undefined ? undefined : new ChatTemplate(source, specialTokens);
}

function templateIn(json: Record<string, unknown> | undefined): string | undefined {
  const value = json?.["chat_template"];
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const named = value as { name?: unknown; template?: unknown }[];
  const { template } = named.find(({ name }) => name === "default") ?? {};
  return typeof template === "string" ? template : undefined;
}

function failed(what: string, cause: unknown): VlmExecutorError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new VlmExecutorError("CHAT_TEMPLATE_FAILED", `The chat template ${what}: ${reason}`, {
    cause,
  });
}
