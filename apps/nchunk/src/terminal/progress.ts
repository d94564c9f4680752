import ora from "ora";

/** Reports how far a task is: `fraction` in 0..1 where it is known, and what is being done. */
export type ReportProgress = (fraction: number | undefined, detail?: string) => void;

/** Without a terminal a line is printed at most this often, so that logs stay readable. */
const LINE_INTERVAL_MS = 2000;

const BAR_CELLS = 20;

/** A bar of fixed width for a fraction of 0..1; less or more is drawn as empty or full. */
export function progressBar(fraction: number): string {
  const full = Math.floor(Math.min(1, Math.max(0, fraction)) * BAR_CELLS);
  return "█".repeat(full) + "░".repeat(BAR_CELLS - full);
}

const percent = (fraction: number | undefined): string =>
  fraction === undefined ? "" : ` ${Math.floor(Math.min(1, fraction) * 100)} %`;

/**
 * Runs a task that may take more than a second with its progress on standard error: a spinner on a
 * terminal, now and then a line elsewhere. Errors pass through.
 */
export async function withProgress<T>(
  title: string,
  task: (report: ReportProgress) => Promise<T>,
): Promise<T> {
  // Some pseudo-terminals have no width, which sends ora into an endless loop of clearing lines.
  const onTerminal = process.stderr.isTTY && process.stderr.columns > 0;
  const spinner = onTerminal
    ? ora({ text: title, stream: process.stderr, discardStdin: false })
    : undefined;
  spinner?.start();
  let lastLineAt = Date.now();
  const report: ReportProgress = (fraction, detail) => {
    const bar = spinner && fraction !== undefined ? ` ${progressBar(fraction)}` : "";
    const text = `${title}${bar}${percent(fraction)}${detail ? ` (${detail})` : ""}`;
    if (spinner) spinner.text = text;
    else if (Date.now() - lastLineAt >= LINE_INTERVAL_MS) {
      lastLineAt = Date.now();
      process.stderr.write(`${text}\n`);
    }
  };
  try {
    const result = await task(report);
    spinner?.succeed(title);
    return result;
  } catch (error) {
    spinner?.fail(title);
    throw error;
  }
}
