import type { ChunkPlan } from "@neuron-chunking/latency-model";
import type { PlanWorkspace } from "./plan-workspace.js";

/** A stored matrix as far as its plans are concerned. */
export interface PlannedMatrix {
  readonly name: string;
  readonly rows: number;
}

const WORD_BITS = 32;
const ALL_BITS = 0xffff_ffff;

/**
 * The last plan of each stored matrix: one bit for each row, all of it allocated at once. (More of the past foretells no
 * better: see bench/plan-overlap.mjs.)
 */
export class PlanMemory {
  private readonly words: Uint32Array;
  /** By name: where the matrix's bits begin. */
  private readonly firstWords = new Map<string, number>();
  private readonly remembered = new Set<string>();

  constructor(matrices: readonly PlannedMatrix[]) {
    let words = 0;
    for (const { name, rows } of matrices) {
      this.firstWords.set(name, words);
      words += wordsFor(rows);
    }
    this.words = new Uint32Array(words);
  }

  /** Bytes that the plans of these matrices take. */
  static bytesFor(matrices: readonly PlannedMatrix[]): number {
    const words = matrices.reduce((sum, { rows }) => sum + wordsFor(rows), 0);
    return words * Uint32Array.BYTES_PER_ELEMENT;
  }

  /** Keeps the plan instead of the matrix's last one. A matrix that was not announced is not remembered. */
  remember({ name, rows }: PlannedMatrix, { starts, lengths, chunkCount }: ChunkPlan): void {
    const first = this.firstWords.get(name);
    if (first === undefined) return;
    this.words.fill(0, first, first + wordsFor(rows));
    for (let c = 0; c < chunkCount; c++) this.set(first, starts[c], starts[c] + lengths[c]);
    this.remembered.add(name);
  }

  /**
   * The matrix's last plan, its chunks maximal.
   *
   * @returns whether there is one; `into` is empty where there is none
   */
  recall({ name, rows }: PlannedMatrix, into: PlanWorkspace): boolean {
    into.clear();
    const first = this.firstWords.get(name);
    if (first === undefined || !this.remembered.has(name)) return false;
    let row = this.find(first, 0, rows, 0);
    while (row < rows) {
      const end = this.find(first, row, rows, ALL_BITS);
      into.add(row, end);
      row = this.find(first, end, rows, 0);
    }
    return true;
  }

  private set(first: number, start: number, end: number): void {
    const { words } = this;
    const startWord = first + Math.floor(start / WORD_BITS);
    const lastWord = first + Math.floor((end - 1) / WORD_BITS);
    const head = (ALL_BITS << (start % WORD_BITS)) >>> 0;
    const tail = ALL_BITS >>> (WORD_BITS - 1 - ((end - 1) % WORD_BITS));
    if (startWord === lastWord) {
      words[startWord] |= head & tail;
      return;
    }
    words[startWord] |= head;
    words.fill(ALL_BITS, startWord + 1, lastWord);
    words[lastWord] |= tail;
  }

  /** The first row from `row` on whose bit is not that of `skipped` (all bits set, or none); `rows` where there is none. */
  private find(first: number, row: number, rows: number, skipped: number): number {
    let word = Math.floor(row / WORD_BITS);
    // Rows before `row` do not count.
    let mask = (ALL_BITS << (row % WORD_BITS)) >>> 0;
    for (; word * WORD_BITS < rows; word++) {
      const bits = ((this.words[first + word] ^ skipped) & mask) >>> 0;
      // Bits beyond the last row are never set, but differ from `skipped` where that is all set.
      if (bits !== 0) return Math.min(rows, word * WORD_BITS + trailingZeros(bits));
      mask = ALL_BITS;
    }
    return rows;
  }
}

function wordsFor(rows: number): number {
  return Math.ceil(rows / WORD_BITS);
}

function trailingZeros(bits: number): number {
  return WORD_BITS - 1 - Math.clz32(bits & -bits);
}
