import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe } from "vitest";
import type { FlashReaderOptions } from "../src/index.js";
import { FlashReader, FlashReaderError } from "../src/index.js";
import { writeNoise } from "./support.js";

/** A way to read that must keep the whole contract. */
export interface BackendCase {
  readonly name: string;
  /** Opens a file exactly this way. */
  readonly options: FlashReaderOptions & {
    readonly backend: "io_uring" | "pool";
    readonly directIo: "required" | "disabled";
  };
  /** Why this system has no such backend; found out by opening a file with it. */
  readonly refusal?: string;
}

/** Every way to read, whether this system has it or not. */
export const BACKENDS: readonly BackendCase[] = await probe();

/** One suite over every backend. What the system refuses is skipped, with the reason in its title. */
export function describeEachBackend(
  title: string,
  suite: (options: BackendCase["options"], name: string) => void,
): void {
  for (const { name, options, refusal } of BACKENDS) {
    describe.skipIf(refusal !== undefined)(
      `${title}, ${name}${refusal === undefined ? "" : ` (skipped: ${refusal})`}`,
      () => {
        suite(options, name);
      },
    );
  }
}

async function probe(): Promise<BackendCase[]> {
  const directory = fileURLToPath(new URL("../.cache", import.meta.url));
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `probe-${process.pid}-${Date.now()}.bin`);
  writeNoise(path, 16_384);
  const cases: BackendCase[] = [];
  for (const backend of ["io_uring", "pool"] as const) {
    for (const directIo of ["required", "disabled"] as const) {
      const name = `${backend} ${directIo === "required" ? "direct" : "buffered"}`;
      const options = { backend, directIo };
      const refusal = await refusalOf(path, options);
      if (refusal !== undefined) console.warn(`Tests over ${name} are skipped: ${refusal}`);
      cases.push({ name, options, ...(refusal !== undefined && { refusal }) });
    }
  }
  rmSync(path);
  return cases;
}

/** Only a typed "unsupported" is a reason to skip. */
async function refusalOf(path: string, options: FlashReaderOptions): Promise<string | undefined> {
  try {
    await (await FlashReader.open(path, options)).close();
    return undefined;
  } catch (error) {
    const unsupported = ["BACKEND_UNSUPPORTED", "DIRECT_IO_UNSUPPORTED"];
    if (error instanceof FlashReaderError && unsupported.includes(error.code)) {
      return `${error.code} ${error.errno ?? ""}`.trimEnd();
    }
    throw error;
  }
}
