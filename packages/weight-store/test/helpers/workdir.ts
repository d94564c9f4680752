import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHash } from "node:crypto";
import { afterAll, expect } from "vitest";
import { WeightStoreError, type WeightStoreErrorCode } from "../../src/errors.js";

/** A directory that is removed after the test file. */
export function workDirectory(): string {
  const dir = mkdtempSync(join(tmpdir(), "weight-store-"));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Expects `work` to fail with a typed error of this code whose message names what matters; returns it. */
export async function expectCode(
  work: Promise<unknown>,
  code: WeightStoreErrorCode,
  ...mentions: string[]
): Promise<WeightStoreError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(WeightStoreError);
  const typed = error as WeightStoreError;
  expect(typed, typed.message).toMatchObject({ code });
  for (const mention of mentions) expect(typed.message).toContain(mention);
  return typed;
}

/** SHA-256 of every file of a directory, by name. */
export function contents(dir: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(dir)
      .sort()
      .map((name) => [
        name,
        createHash("sha256")
          .update(readFileSync(join(dir, name)))
          .digest("hex"),
      ]),
  );
}
