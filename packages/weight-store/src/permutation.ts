import { WeightStoreError } from "./errors.js";

/**
 * Checks that `permutation` holds each of 0..rows-1 once.
 * @throws WeightStoreError INVALID_ARGUMENT naming the bundle and the first offending entry.
 */
export function requirePermutation(permutation: Uint32Array, rows: number, bundle: string): void {
  if (!(permutation instanceof Uint32Array) || permutation.length !== rows) {
    throw new WeightStoreError(
      "INVALID_ARGUMENT",
      `The permutation of ${bundle} must be a Uint32Array of ${rows} entries, one for each row.`,
      { name: bundle, expected: rows, got: permutation?.length },
    );
  }
  const seen = new Uint8Array(rows);
  for (let stored = 0; stored < rows; stored++) {
    const original = permutation[stored];
    if (original >= rows || seen[original] === 1) {
      throw new WeightStoreError(
        "INVALID_ARGUMENT",
        `The permutation of ${bundle} must hold each of 0..${rows - 1} once; entry ${stored} is ${original}.`,
        { name: bundle, expected: `0..${rows - 1} once each`, got: original },
      );
    }
    seen[original] = 1;
  }
}

/** inverse[permutation[i]] = i. */
export function inversePermutation(permutation: Uint32Array): Uint32Array {
  const inverse = new Uint32Array(permutation.length);
  for (let stored = 0; stored < permutation.length; stored++) inverse[permutation[stored]] = stored;
  return inverse;
}
