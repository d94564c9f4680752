import { expect } from "vitest";
import { ChunkSelectorError, type ChunkSelectorErrorCode } from "../src/index.js";

/** Asserts that `run` throws a ChunkSelectorError with this code and path, and a usable message. */
export function expectError(run: () => unknown, code: ChunkSelectorErrorCode, path: string): void {
  const error = caught(run);
  expect(error).toBeInstanceOf(ChunkSelectorError);
  const { code: gotCode, path: gotPath, message, expected, got } = error as ChunkSelectorError;
  expect({ code: gotCode, path: gotPath }).toEqual({ code, path });
  expect(message).toContain(path);
  expect(message).toContain(expected);
  expect(message).toContain(got);
}

function caught(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}
