import { createOutput, reportError, type Output } from "../terminal/output";

/** Ctrl-C, as a shell reports it. */
const EXIT_INTERRUPTED = 130;
const EXIT_FAILED = 1;

/**
 * Runs a verb's body: Ctrl-C aborts it cleanly (a second one ends the process), an error is reported
 * once, and the exit code says how it ended.
 */
export async function runVerb(
  options: { json?: boolean },
  body: (output: Output, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const isJson = options.json === true;
  const abort = new AbortController();
  const onInterrupt = (): void => {
    if (abort.signal.aborted) process.exit(EXIT_INTERRUPTED);
    abort.abort();
    process.stderr.write("\nnchunk: stopping; once more to quit at once.\n");
  };
  process.on("SIGINT", onInterrupt);
  try {
    await body(createOutput(isJson), abort.signal);
  } catch (error) {
    if (abort.signal.aborted) {
      process.exitCode = EXIT_INTERRUPTED;
      return;
    }
    reportError(error, isJson);
    process.exitCode = EXIT_FAILED;
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}
