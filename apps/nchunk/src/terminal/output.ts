import { errorCode, isExpectedError } from "../errors";

/** The two ways a verb speaks: text for people, or one JSON document and nothing else on stdout. */
export interface Output {
  readonly isJson: boolean;
  /** Text for people; silent under `--json`. */
  write(text: string): void;
  line(text?: string): void;
  /** The verb's machine-readable result; silent without `--json`. */
  result(value: unknown): void;
}

export function createOutput(isJson: boolean): Output {
  const write = (text: string): void => {
    if (!isJson) process.stdout.write(text);
  };
  return {
    isJson,
    write,
    line: (text = "") => write(`${text}\n`),
    result: (value) => {
      if (isJson) process.stdout.write(`${JSON.stringify(value)}\n`);
    },
  };
}

/** As a shell reports a program that a closed pipe ended. */
const EXIT_PIPE_CLOSED = 141;

/** Ends the process without a word when nobody reads what it prints any more, as with `| head`. */
export function endWithReader(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit(EXIT_PIPE_CLOSED);
  });
  // What is said on the way is not needed for the result.
  process.stderr.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
}

/** Prints an error for whoever reads: a message for people, `{ error }` under `--json`. */
export function reportError(error: unknown, isJson: boolean): void {
  const message = error instanceof Error ? error.message : String(error);
  if (isJson) {
    const code = errorCode(error) ?? "INTERNAL";
    process.stdout.write(`${JSON.stringify({ error: { code, message } })}\n`);
  }
  const detail = isExpectedError(error) || !(error instanceof Error) ? message : error.stack;
  process.stderr.write(`nchunk: ${detail ?? message}\n`);
}
