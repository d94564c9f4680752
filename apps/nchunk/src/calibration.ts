import { NchunkError } from "./errors";
import { readJson } from "./device-profile";

/** What `--record-activations` writes and `--reorder` reads: per bundle, how often each row was active. */
export interface ActivationRecord {
  schemaVersion: 1;
  /** How many passes were recorded. */
  samples: number;
  /** Bundle name to activation frequency `[rows]`, 0..1, in the checkpoint's own order. */
  frequencies: Record<string, number[]>;
}

function isFrequencies(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((v) => typeof v === "number" && v >= 0 && v <= 1);
}

/** Reads an activation record. Throws INVALID_ARGUMENT naming what is wrong with it. */
export async function readFrequencies(file: string): Promise<Record<string, Float32Array>> {
  const record = (await readJson(file)) as Partial<ActivationRecord> | null;
  const entries = Object.entries(record?.frequencies ?? {});
  const broken = entries.find(([, values]) => !isFrequencies(values));
  if (record?.schemaVersion !== 1 || entries.length === 0 || broken) {
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `${file} is not an activation record${broken ? ` (bundle ${broken[0]})` : ""}. ` +
        "Make one with `nchunk run --record-activations FILE`.",
    );
  }
  return Object.fromEntries(entries.map(([bundle, values]) => [bundle, Float32Array.from(values)]));
}
