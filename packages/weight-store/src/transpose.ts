/**
 * Transposition of HF weight matrices [N, K] (one row per output) into neuron-major rows [K, N] (one row per input
 * channel), a panel of stored rows at a time.
 */

/** Elements as unsigned integers of their size: conversion moves bits and never rounds. */
export type ElementArray = Uint16Array | Uint32Array;

/** 32 x 32 elements of source and destination stay in the L1 cache together. */
const TILE = 32;

/** Part of a source matrix in memory: `outputs` rows of it, each `stride` elements long. */
export interface SourceBlock {
  /** source [outputs, stride]. */
  elements: ElementArray;
  stride: number;
  /** Output index of the block's first row. */
  firstOutput: number;
  outputs: number;
  /** Input channel of the block's first column. */
  firstInput: number;
}

/** A run of stored rows in memory. */
export interface Panel {
  /** panel [rows, stride]. */
  elements: ElementArray;
  stride: number;
  /** Stored index of the panel's first row. */
  firstRow: number;
  rows: number;
}

/**
 * Writes a block of a source matrix into its place in a panel:
 * panel[row, columnOffset + columnOrder(output)] = source[output, rowOrder(row)].
 * @param rowOrder rowOrder[stored row] = input channel; identity when absent.
 * @param columnOrder columnOrder[output] = stored column within the part; identity when absent.
 */
export function transposeInto(
  panel: Panel,
  source: SourceBlock,
  columnOffset: number,
  rowOrder: Uint32Array | undefined,
  columnOrder: Uint32Array | undefined,
): void {
  const pairs = pairViews(panel, source, columnOffset, rowOrder ?? columnOrder);
  // What the pairs leave: an odd last row, an odd last output.
  const pairedRows = pairs === undefined ? 0 : panel.rows & ~1;
  const pairedOutputs = pairs === undefined ? 0 : source.outputs & ~1;
  if (pairs !== undefined) copyPairs(pairs, pairedRows, pairedOutputs);
  const inputs = new Uint32Array(panel.rows);
  for (let row = 0; row < panel.rows; row++) {
    const stored = panel.firstRow + row;
    inputs[row] = (rowOrder === undefined ? stored : rowOrder[stored]) - source.firstInput;
  }
  const columns = new Uint32Array(source.outputs);
  for (let index = 0; index < source.outputs; index++) {
    const output = source.firstOutput + index;
    columns[index] = columnOffset + (columnOrder === undefined ? output : columnOrder[output]);
  }
  for (let row = 0; row < panel.rows; row += TILE) {
    const rowEnd = Math.min(row + TILE, panel.rows);
    const firstOutput = rowEnd <= pairedRows ? pairedOutputs : 0;
    for (let output = firstOutput; output < source.outputs; output += TILE) {
      const outputEnd = Math.min(output + TILE, source.outputs);
      copyTile(panel, source, inputs, columns, row, rowEnd, output, outputEnd);
    }
  }
}

/** Two neighbouring 16-bit elements as one 32-bit integer, in source and destination. */
interface PairViews {
  to: Uint32Array;
  toStride: number;
  from: Uint32Array;
  fromStride: number;
}

/** Views for copyPairs, placed at the block's first elements, or undefined where pairs do not line up. */
function pairViews(
  panel: Panel,
  source: SourceBlock,
  columnOffset: number,
  order: Uint32Array | undefined,
): PairViews | undefined {
  const { elements: to, stride: toStride } = panel;
  const { elements: from, stride: fromStride } = source;
  const toFirst = columnOffset + source.firstOutput;
  const fromFirst = panel.firstRow - source.firstInput;
  const odd = (toStride | fromStride | toFirst | fromFirst) & 1;
  if (order !== undefined || to.BYTES_PER_ELEMENT !== 2 || odd === 1) return undefined;
  const toByte = to.byteOffset + 2 * toFirst;
  const fromByte = from.byteOffset + 2 * fromFirst;
  if (toByte % 4 !== 0 || fromByte % 4 !== 0) return undefined;
  return {
    to: new Uint32Array(to.buffer, toByte, (to.length - toFirst) >> 1),
    toStride: toStride / 2,
    from: new Uint32Array(from.buffer, fromByte, (from.length - fromFirst) >> 1),
    fromStride: fromStride / 2,
  };
}

/** Transposes 2 x 2 elements with two loads and two stores: twice as fast, for the matrices of every usual model. */
function copyPairs(views: PairViews, rows: number, outputs: number): void {
  const { to, toStride, from, fromStride } = views;
  for (let rowBegin = 0; rowBegin < rows; rowBegin += TILE) {
    const rowEnd = Math.min(rowBegin + TILE, rows);
    for (let outputBegin = 0; outputBegin < outputs; outputBegin += TILE) {
      const outputEnd = Math.min(outputBegin + TILE, outputs);
      for (let row = rowBegin; row < rowEnd; row += 2) {
        const upper = row * toStride;
        const lower = upper + toStride;
        for (let output = outputBegin; output < outputEnd; output += 2) {
          const at = output * fromStride + (row >> 1);
          const first = from[at];
          const second = from[at + fromStride];
          to[upper + (output >> 1)] = (first & 0xffff) | (second << 16);
          to[lower + (output >> 1)] = (first >>> 16) | (second & 0xffff0000);
        }
      }
    }
  }
}

function copyTile(
  panel: Panel,
  source: SourceBlock,
  inputs: Uint32Array,
  columns: Uint32Array,
  rowBegin: number,
  rowEnd: number,
  outputBegin: number,
  outputEnd: number,
): void {
  const to = panel.elements;
  const from = source.elements;
  const { stride } = source;
  for (let row = rowBegin; row < rowEnd; row++) {
    const input = inputs[row];
    const base = row * panel.stride;
    for (let output = outputBegin; output < outputEnd; output++) {
      to[base + columns[output]] = from[output * stride + input];
    }
  }
}
