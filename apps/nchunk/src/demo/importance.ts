/** A small seeded generator (mulberry32), uniform in [0, 1): the tables must be the same each run. */
function uniformGenerator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Log-normal importances `[rows]` in random order with the given coefficient of variation:
 * for exp(s Z) it is sqrt(exp(s^2) - 1). Random order is the hardest case for chunks.
 */
export function lognormalImportance(rows: number, variation: number, seed: number): Float32Array {
  const uniform = uniformGenerator(seed);
  const deviation = Math.sqrt(Math.log(1 + variation ** 2));
  const normal = (): number =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return Float32Array.from({ length: rows }, () => Math.exp(deviation * normal()));
}
