import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { script } from "./support.js";

const TIME_LIMIT_MS = 60_000;

export interface ChildOutcome {
  /** Exit code; null when a signal ended it. */
  readonly code: number | null;
  readonly signal: string | null;
  readonly output: string;
  readonly errors: string;
}

/** Runs `command` and tells how it ended, whatever the way. */
export async function runCommand(command: string, args: readonly string[]): Promise<ChildOutcome> {
  try {
    const { stdout, stderr } = await promisify(execFile)(command, args, { timeout: TIME_LIMIT_MS });
    return { code: 0, signal: null, output: stdout, errors: stderr };
  } catch (error) {
    const failed = error as { code?: unknown; signal?: string; stdout?: string; stderr?: string };
    if (failed.stdout === undefined) throw error;
    return {
      code: typeof failed.code === "number" ? failed.code : null,
      signal: failed.signal ?? null,
      output: failed.stdout,
      errors: failed.stderr ?? "",
    };
  }
}

/** Runs a program of `scripts/` in a process of its own, which can collect garbage at will. */
export function runScript(
  name: string,
  path: string,
  options: object = {},
  ...more: string[]
): Promise<ChildOutcome> {
  const args = ["--expose-gc", script(name), path, JSON.stringify(options), ...more];
  return runCommand(process.execPath, args);
}

/** The JSON that a program of `scripts/` printed. Throws with its errors when it failed. */
export async function resultOf<T>(running: Promise<ChildOutcome>): Promise<T> {
  const { code, signal, output, errors } = await running;
  if (code !== 0) throw new Error(`the program ended with ${code ?? signal}: ${errors}${output}`);
  return JSON.parse(output) as T;
}
