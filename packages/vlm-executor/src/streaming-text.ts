/** A UTF-8 character has at most 4 bytes, so with one byte per token at most 3 wait for the last. */
const MAX_WAITING_IDS = 3;
/** Ids of context that a decoder needs to treat spaces at the seam as it does inside a text. */
const CONTEXT_IDS = 6;
const REPLACEMENT = "\uFFFD";

/**
 * Turns token ids into text as they come, holding back ids whose bytes do not yet make whole characters.
 * The pieces joined are what decoding all ids at once gives, as far as those are valid UTF-8.
 */
export class StreamingText {
  private context: number[] = [];
  private waiting: number[] = [];

  /** @param decode ids to text, with U+FFFD for incomplete characters */
  constructor(private readonly decode: (ids: number[]) => string) {}

  /** The text that has become certain with `id`, perhaps empty. */
  push(id: number): string {
    this.waiting.push(id);
    if (!this.textOf(this.waiting).endsWith(REPLACEMENT)) return this.emit(this.waiting.length);
    // Whatever is older cannot be completed by what is still to come.
    const hopeless = this.waiting.length - MAX_WAITING_IDS;
    return hopeless > 0 ? this.emit(hopeless) : "";
  }

  /** What is still held back, broken characters as U+FFFD. */
  flush(): string {
    return this.emit(this.waiting.length);
  }

  private emit(count: number): string {
    const ids = this.waiting.splice(0, count);
    const text = this.textOf(ids);
    this.context = [...this.context, ...ids].slice(-CONTEXT_IDS);
    return text;
  }

  /** Text that `ids` add behind the context. */
  private textOf(ids: readonly number[]): string {
    if (ids.length === 0) return "";
    const before = this.context.length === 0 ? "" : this.decode(this.context);
    const all = this.decode([...this.context, ...ids]);
    return all.startsWith(before) ? all.slice(before.length) : this.decode([...ids]);
  }
}
