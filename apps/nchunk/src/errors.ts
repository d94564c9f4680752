/** What can be wrong with what a user typed or with the files they named. */
export type NchunkErrorCode =
  | "INVALID_ARGUMENT"
  | "MODEL_NOT_FOUND"
  | "CACHE_NOT_WRITABLE"
  | "DISK_FULL"
  | "ASSET_MISSING"
  | "BENCH_FAILED";

/** An error of the command line itself; the libraries below have classes of their own. */
export class NchunkError extends Error {
  override readonly name = "NchunkError";

  constructor(
    readonly code: NchunkErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Every error class of this project carries a stable `code`; a system error carries its errno name. */
export function errorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : undefined;
}

/** Whether the error tells of the user's input or machine (a message is enough) rather than of a bug. */
export function isExpectedError(error: unknown): error is Error & { code: string } {
  return error instanceof Error && errorCode(error) !== undefined;
}
