/** Inputs that differ in nothing but their scale are read alike, whatever came before them. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { copyPlan, simulatedDevice } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { PolicyRows } from "../src/selection/policy-rows.js";
import { selectionSettings } from "../src/selection/settings.js";

const SEED = Number(process.env["FC_SEED"] ?? Date.now() % 2 ** 31);
console.log(`fast-check seed ${SEED}`);

it("lagrange takes the same rows of the same inputs times powers of two", () => {
  const settings = selectionSettings({
    policy: "lagrange",
    sparsity: 0.5,
    profile: simulatedDevice("orin-agx"),
  });
  const cases = fc.record({
    rows: fc.integer({ min: 40, max: 900 }),
    rowBytes: fc.constantFrom(512, 1792, 9728),
    residentShare: fc.constantFrom(0, 0.1),
    powers: fc.array(fc.integer({ min: -12, max: 12 }), { minLength: 2, maxLength: 6 }),
    seed: fc.integer(),
  });
  fc.assert(
    fc.property(cases, ({ rows, rowBytes, residentShare, powers, seed }) => {
      let state = seed >>> 0;
      const inputs = powers.map(() =>
        Float32Array.from({ length: rows }, () => {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
          return (state / 2 ** 32) ** 3;
        }),
      );
      const info = { name: "m", rows, rowBytes } as BundleInfo;
      const plansOf = (scales: readonly number[]) => {
        const chooser = new PolicyRows(settings, rows);
        return inputs.map((input, i) => {
          const importance = input.map((value) => value * 2 ** scales[i]);
          const residentRows = Math.floor(residentShare * rows);
          return copyPlan(chooser.choose(info, importance, undefined, residentRows).plan);
        });
      };
      expect(plansOf(powers)).toEqual(plansOf(powers.map(() => 0)));
    }),
    { seed: SEED, numRuns: 100 },
  );
});
