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
