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
    for (let output = 0; output < source.outputs; output += TILE) {
      const outputEnd = Math.min(output + TILE, source.outputs);
      copyTile(panel, source, inputs, columns, row, rowEnd, output, outputEnd);
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
