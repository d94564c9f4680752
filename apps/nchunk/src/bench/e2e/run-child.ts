import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { NchunkError } from "../../errors";
import type { ChildRequest, ResultOf } from "./child-protocol";
import type { MemoryCgroup } from "./memory-cgroup";

/** The hidden verb that runs one case in a process of its own. */
export const CHILD_VERB = "e2e-child";

/** Joins the group and becomes the command, so that all of its memory is charged to the group. */
const ENTER_GROUP = 'echo $$ > "$0" && exec "$@"';

export interface ChildOptions {
  readonly signal: AbortSignal;
  /** Killed after so long. */
  readonly timeoutMs: number;
  /** Control group to run in. */
  readonly group?: MemoryCgroup;
}

/** Why a child gave no result. */
export class ChildFailure extends NchunkError {
  constructor(
    message: string,
    /** Of the error that the child reported, if it did. */
    readonly childCode: string | undefined,
  ) {
    super("BENCH_FAILED", message);
  }
}

/**
 * Runs a case in a new process: its memory is its own, and nothing of another case is warm in it.
 * @throws ChildFailure when it ends without a result; the signal's reason when aborted
 */
export async function runChild<R extends ChildRequest>(
  request: R,
  { signal, timeoutMs, group }: ChildOptions,
): Promise<ResultOf<R>> {
  signal.throwIfAborted();
  const node = [process.execPath, ...process.execArgv, process.argv[1], "bench", CHILD_VERB];
  const [command, ...args] =
    group === undefined ? node : ["/bin/sh", "-c", ENTER_GROUP, group.procsFile, ...node];
  const child = spawn(command, args, {
    stdio: ["pipe", "pipe", "pipe"],
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    killSignal: "SIGKILL",
  });
  const ended = new Promise<string>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, endedBy) => resolve(endedBy ?? `exit code ${code}`));
  });
  // A child that dies early closes its input; how it ended says more.
  child.stdin.on("error", () => undefined);
  child.stdin.end(JSON.stringify(request));
  const [stdout, stderr, how] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    ended.catch((error: Error) => {
      signal.throwIfAborted();
      return error.name === "AbortError" ? `no result in ${timeoutMs / 1000} s` : error.message;
    }),
  ]);
  signal.throwIfAborted();
  const answer = parse(stdout) as
    ({ error?: { code: string; message: string } } & ResultOf<R>) | undefined;
  if (answer === undefined || answer.error !== undefined) {
    const said = answer?.error?.message ?? lastLine(stderr);
    throw new ChildFailure(`${request.kind}: ${said || how}`, answer?.error?.code);
  }
  return answer;
}

function parse(stdout: string): unknown {
  try {
    return JSON.parse(stdout);
  } catch {
    return undefined;
  }
}

const lastLine = (stderr: string): string => stderr.trim().split("\n").at(-1) ?? "";
