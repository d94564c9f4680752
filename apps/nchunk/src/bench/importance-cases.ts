import { activationFrequencies, hotColdPermutation } from "@neuron-chunking/chunk-selector";
import { uniformGenerator } from "../random";

/** How importances lie in the stored order of the rows. */
export const IMPORTANCE_ORDERS = Object.freeze(["random", "clustered", "hot-cold"] as const);
export type ImportanceOrder = (typeof IMPORTANCE_ORDERS)[number];

/** Coefficients of variation before down projections, and in the last layers (the paper's App. B.2). */
export const IMPORTANCE_VARIATIONS: readonly number[] = Object.freeze([1.1, 1.3, 3.3]);

/**
 * Correlation of the logarithms of neighbouring rows in "clustered" order. At 0.9 it has halved after seven rows: chunks
 * arise by themselves, but far shorter than those that a device reads best.
 */
export const CLUSTER_CORRELATION = 0.9;

/**
 * Share of the variance of the log importance that belongs to the neuron; the rest is drawn anew for each input. The paper
 * gives no number, but says that reordering alone speeds top-k up to 1.23 times: at this share it does so 1.06 to 1.26
 * times over the paper's shapes at 40 to 60 % kept (modelled, Orin Nano). At a half it would be up to 1.5 times.
 */
export const NEURON_SHARE = 0.3;

/** Inputs over which activation frequencies are counted for the hot-cold order. */
export const CALIBRATION_INPUTS = 32;

/** Which importances to draw; the same query always gives the same numbers. */
export interface ImportanceQuery {
  readonly rows: number;
  /** Coefficient of variation of the log-normal distribution; a heavy tail's sample may lie off it. */
  readonly variation: number;
  readonly seed: number;
}

/** One input before and after its rows were stored in hot-cold order: the same numbers in two orders. */
export interface HotColdInput {
  /** `[rows]` in the original order. */
  readonly original: Float32Array;
  /** `[rows]` in stored order: `reordered[i] = original[permutation[i]]`. */
  readonly reordered: Float32Array;
  /** `[rows]`, from calibration inputs of which this input is none. */
  readonly permutation: Uint32Array;
}

/** Streams of random numbers that one query needs; each has a seed of its own. */
const NEURON_STREAM = 0;
const FIRST_INPUT_STREAM = 1;
/** Spreads neighbouring seeds and streams over all 32 bits (constants of MurmurHash3's final mix). */
function streamSeed(seed: number, stream: number): number {
  let mixed = Math.imul(seed ^ Math.imul(stream + 1, 0x9e3779b9), 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** `[count]` standard normal numbers (Box and Muller). */
function standardNormals(count: number, seed: number): Float64Array {
  const uniform = uniformGenerator(seed);
  const normals = new Float64Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    normals[i] = radius * Math.cos(angle);
    if (i + 1 < count) normals[i + 1] = radius * Math.sin(angle);
  }
  return normals;
}

/** For `exp(s Z)` the coefficient of variation is `sqrt(exp(s^2) - 1)`. */
const logDeviation = (variation: number): number => Math.sqrt(Math.log(1 + variation ** 2));

/**
 * Inputs of one projection, by number: `log v = s (sqrt(p) neuron + sqrt(1 - p) input)`, where the neuron's part stays and
 * the input's is drawn for each. Each input alone is log-normal of the wanted variation, in random order.
 *
 * @returns `input => [rows]`, a new array at each call.
 */
export function projectionInputs(query: ImportanceQuery): (input: number) => Float32Array {
  const { rows, variation, seed } = query;
  const neuron = standardNormals(rows, streamSeed(seed, NEURON_STREAM));
  const deviation = logDeviation(variation);
  const neuronWeight = deviation * Math.sqrt(NEURON_SHARE);
  const inputWeight = deviation * Math.sqrt(1 - NEURON_SHARE);
  return (input) => {
    const own = standardNormals(rows, streamSeed(seed, FIRST_INPUT_STREAM + input));
    return Float32Array.from(own, (value, row) =>
      Math.exp(neuronWeight * neuron[row] + inputWeight * value),
    );
  };
}

/** A fresh input in original and in hot-cold order (paper section 3.3), calibrated on {@link CALIBRATION_INPUTS} others. */
export function drawHotCold(query: ImportanceQuery): HotColdInput {
  const inputOf = projectionInputs(query);
  const calibration = Array.from({ length: CALIBRATION_INPUTS }, (_, input) => inputOf(input + 1));
  const permutation = hotColdPermutation(activationFrequencies(calibration));
  const original = inputOf(0);
  const reordered = Float32Array.from(permutation, (row) => original[row]);
  return { original, reordered, permutation };
}

/** A first-order autoregression of the logarithm along the rows, with the stationary distribution from the first row on. */
function drawClustered({ rows, variation, seed }: ImportanceQuery): Float32Array {
  const deviation = logDeviation(variation);
  const innovation = Math.sqrt(1 - CLUSTER_CORRELATION ** 2);
  let state = 0;
  return Float32Array.from(standardNormals(rows, streamSeed(seed, NEURON_STREAM)), (value, row) => {
    state = row === 0 ? value : CLUSTER_CORRELATION * state + innovation * value;
    return Math.exp(deviation * state);
  });
}

/**
 * Log-normal importances `[rows]`, a new array. "random" is the input of "hot-cold" before its rows were reordered, so
 * that the two differ by nothing but the reordering.
 */
export function drawImportance(order: ImportanceOrder, query: ImportanceQuery): Float32Array {
  switch (order) {
    case "random":
      return projectionInputs(query)(0);
    case "clustered":
      return drawClustered(query);
    case "hot-cold":
      return drawHotCold(query).reordered;
  }
}

/** (standard deviation) / mean of all values, 0 where all are zero. */
export function coefficientOfVariation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return mean === 0 ? 0 : Math.sqrt(variance) / mean;
}
