import { VlmExecutorError } from "../../src/index.js";
import type { GeneratedToken, Session, VlmExecutorErrorCode } from "../../src/index.js";

/** Code of the error an action ends with. */
export async function code(action: Promise<unknown>): Promise<VlmExecutorErrorCode | "resolved"> {
  return action.then(
    () => "resolved" as const,
    (cause: unknown) => {
      if (cause instanceof VlmExecutorError) return cause.code;
      throw cause;
    },
  );
}

export async function collect(tokens: AsyncIterable<GeneratedToken>): Promise<GeneratedToken[]> {
  const all: GeneratedToken[] = [];
  for await (const token of tokens) all.push(token);
  return all;
}

export const ids = (tokens: readonly GeneratedToken[]) => tokens.map(({ id }) => id);
export const greedy = (session: Session, maxNewTokens: number) =>
  collect(session.generate({ maxNewTokens, stopTokenIds: [] }));
