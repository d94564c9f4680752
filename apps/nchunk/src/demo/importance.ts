import { standardNormal, uniformGenerator } from "../random";

/**
 * Log-normal importances `[rows]` in random order with the given coefficient of variation:
 * for exp(s Z) it is sqrt(exp(s^2) - 1). Random order is the hardest case for chunks.
 */
export function lognormalImportance(rows: number, variation: number, seed: number): Float32Array {
  const uniform = uniformGenerator(seed);
  const deviation = Math.sqrt(Math.log(1 + variation ** 2));
  return Float32Array.from({ length: rows }, () => Math.exp(deviation * standardNormal(uniform)));
}
