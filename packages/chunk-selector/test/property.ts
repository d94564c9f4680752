import fc from "fast-check";

/** Seed of this run's property tests; `FC_SEED=<seed>` repeats a run. */
export const SEED = Number(process.env.FC_SEED ?? Date.now() % 2 ** 31);

/** Runs a property under the printed seed; fast-check adds seed, path and the shrunk case to a failure. */
export function check<T>(property: fc.IProperty<T>, numRuns = 200): void {
  console.log(`fast-check seed ${SEED}`);
  fc.assert(property, { seed: SEED, numRuns });
}
