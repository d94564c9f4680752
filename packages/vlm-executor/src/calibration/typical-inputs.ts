import type { Calibration } from "@neuron-chunking/chunk-selector";
import type { BundleInfo } from "@neuron-chunking/weight-store";

/** Importances of two real inputs of one stored matrix, a byte for each original channel, base64; see `importanceOfBytes`. */
export interface TypicalInput {
  readonly name: string;
  /** Of a block of tokens, as in prefill and frames; absent where every prompt was one token. */
  readonly block?: string;
  /** Of one token, as in decoding. */
  readonly token: string;
}

/** A calibration with inputs to try prices on, as `VlmExecutor.measure` makes it; older ones have none. */
export interface MeasuredCalibration extends Calibration {
  /** In the order of `bundles`. */
  readonly inputs?: readonly TypicalInput[];
}

/** Bytes 1 to 255 are this many times the natural logarithm apart: 5 decades below the largest, in steps of 4.6 %. */
const LEVELS_PER_E = 254 / Math.log(1e5);

/** Importance relative to the largest, on a logarithmic scale; 0 is 0. */
export function bytesOfImportance(importance: Float32Array): Uint8Array {
  const largest = importance.reduce((a, b) => Math.max(a, b), 0);
  return Uint8Array.from(importance, (value) => {
    if (!(value > 0)) return 0;
    return Math.max(1, 255 + Math.round(LEVELS_PER_E * Math.log(value / largest)));
  });
}

/** The inverse, the largest 1. */
export function importanceOfBytes(bytes: Uint8Array): Float32Array {
  return Float32Array.from(bytes, (byte) =>
    byte === 0 ? 0 : Math.exp((byte - 255) / LEVELS_PER_E),
  );
}

/** Of which kind of input the importance is wanted. */
export type InputKind = "block" | "token";

/**
 * One input of each kind for each matrix, of prompts drawn at random, the same each time, and each matrix's of another: together they
 * stand for the whole set.
 */
export class TypicalInputs {
  private readonly inputs = new Map<string, Partial<Record<InputKind, Uint8Array>>>();
  private random = 1;

  /**
   * @param importance by original channel; copied
   * @param before prompts seen before this one
   */
  offer(name: string, kind: InputKind, importance: Float32Array, before: number): void {
    let kept = this.inputs.get(name);
    if (kept === undefined) this.inputs.set(name, (kept = {}));
    this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0;
    // Each prompt is as likely to be kept in the end as any other.
    if (kept[kind] !== undefined && this.random * (before + 1) >= 2 ** 32) return;
    kept[kind] = bytesOfImportance(importance);
  }

  /** What is kept of one matrix; `undefined` where nothing was offered. */
  of(name: string): TypicalInput | undefined {
    const { block, token } = this.inputs.get(name) ?? {};
    if (token === undefined) return undefined;
    const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
    return { name, ...(block === undefined ? {} : { block: text(block) }), token: text(token) };
  }
}

/** The importance of a typical input in the matrix's stored order [rows]; `undefined` where it is of other rows. */
export function typicalImportance(
  { rows, storedOrder }: BundleInfo,
  input: TypicalInput,
  kind: InputKind,
): Float32Array | undefined {
  const bytes = Buffer.from((kind === "block" ? input.block : undefined) ?? input.token, "base64");
  if (bytes.length !== rows) return undefined;
  const original = importanceOfBytes(bytes);
  if (storedOrder === undefined) return original;
  return original.map((_, row) => original[storedOrder[row]]);
}

/** The inputs of a parsed file; `undefined` where it has none that are whole. */
export function parseTypicalInputs(json: unknown): readonly TypicalInput[] | undefined {
  const { inputs } = (json ?? {}) as { readonly inputs?: unknown };
  if (!Array.isArray(inputs)) return undefined;
  const isInput = (entry: unknown): entry is TypicalInput => {
    const { name, block, token } = (entry ?? {}) as Record<string, unknown>;
    const isBlock = block === undefined || typeof block === "string";
    return typeof name === "string" && typeof token === "string" && isBlock;
  };
  return inputs.every(isInput) ? inputs : undefined;
}
