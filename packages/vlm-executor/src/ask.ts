import type { PolicyName } from "@neuron-chunking/chunk-selector";
import type { Model } from "./model.js";
import type { PromptRequest } from "./prompting.js";
import { Session } from "./session.js";
import type { FinishReason, GeneratedToken, GenerateOptions, SessionOptions } from "./session.js";
import { nowNs } from "./trace.js";
import type { Phase, TraceTotals } from "./trace.js";

/** A question with its pictures, and how to answer it. */
export interface AskRequest extends PromptRequest, GenerateOptions, SessionOptions {}

/** A finished answer and what it took. */
export interface Answer {
  readonly text: string;
  /** The stop token, if one ended the answer, included. */
  readonly tokenIds: readonly number[];
  readonly finishReason: FinishReason;
  readonly promptTokens: number;
  readonly policy: PolicyName;
  readonly sparsity: number;
  /** `exact`: every row of every matrix was used. */
  readonly accuracy: "exact" | "lossy";
  /** From the call to the end of the prompt's passes: reading pictures, vision tower and prefill. */
  readonly prefillNs: number;
  /** Making the tokens, the reader's own time between them not counted. */
  readonly decodeNs: number;
  /** Generated tokens per second of `decodeNs`. */
  readonly tokensPerSecond: number;
  /** The model's one price in the last pass, where one ruled it: the option `pricePerNs` that reads the same way. */
  readonly pricePerNs?: number;
  /** Rows, chunks, bytes and times by phase. */
  readonly totals: Readonly<Record<Phase, Readonly<TraceTotals>>>;
}

/**
 * An answer as it comes: iterate it for the tokens, or await `answer()` for the whole, or both. It can be
 * read once. Leaving the loop early ends the work; the answer is then what had come.
 */
export class AnswerStream implements AsyncIterable<GeneratedToken> {
  private started = false;
  private readonly done: Promise<Answer>;
  private finish!: (answer: Answer) => void;
  private fail!: (cause: unknown) => void;

  /** Use `VlmExecutor.ask`. */
  constructor(
    private readonly model: Model,
    private readonly request: AskRequest,
  ) {
    this.done = new Promise((resolve, reject) => {
      this.finish = resolve;
      this.fail = reject;
    });
    // Whoever iterates meets the error there.
    this.done.catch(() => undefined);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void, void> {
    if (this.started) return;
    this.started = true;
    try {
      yield* this.run();
    } catch (cause) {
      this.fail(cause);
      throw cause;
    }
  }

  /**
   * The whole answer, reading on to its end first unless someone iterates already.
   *
   * @throws VlmExecutorError what preparing, appending and generating throw
   */
  async answer(): Promise<Answer> {
    if (!this.started) {
      for await (const token of this) void token;
    }
    return this.done;
  }

  private async *run(): AsyncGenerator<GeneratedToken, void, void> {
    const { model, request } = this;
    const startNs = nowNs();
    const prompt = await model.prompting.prepare(request);
    const session = new Session(model, request);
    await session.appendPrompt(
      prompt,
      request.signal === undefined ? {} : { signal: request.signal },
    );
    const prefillNs = nowNs() - startNs;
    const tokens = session.generate(request);
    const tokenIds: number[] = [];
    let text = "";
    let finishReason: FinishReason = "length";
    let decodeNs = 0;
    const answer = (): Answer => ({
      text,
      tokenIds,
      finishReason,
      promptTokens: prompt.tokenIds.length,
      policy: model.selection.policy,
      sparsity: model.selection.sparsity,
      accuracy: session.accuracy,
      prefillNs,
      decodeNs,
      ...lastPrice(session),
      tokensPerSecond: decodeNs > 0 ? (tokenIds.length / decodeNs) * 1e9 : 0,
      totals: session.totals,
    });
    try {
      for (;;) {
        const tokenStartNs = nowNs();
        const { value, done } = await tokens.next();
        decodeNs += nowNs() - tokenStartNs;
        if (done === true) break;
        tokenIds.push(value.id);
        text += value.text;
        finishReason = value.finishReason ?? finishReason;
        yield value;
      }
    } catch (cause) {
      this.fail(cause);
      throw cause;
    } finally {
      await tokens.return();
      session.close();
      // Without effect after a failure; reached too when the reader leaves early.
      this.finish(answer());
    }
  }
}

function lastPrice({ traces }: Session): Pick<Answer, "pricePerNs"> {
  const pricePerNs = traces.at(-1)?.pricePerNs;
  return pricePerNs === undefined ? {} : { pricePerNs };
}
