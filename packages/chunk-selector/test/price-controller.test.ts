import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PriceController, type SelectionLimit } from "../src/index.js";
import { expectError } from "./expect-error.js";
import { check } from "./property.js";

/** Runs `steps` against a plant and returns its readings. */
function drive(
  controller: PriceController,
  plant: (price: number, step: number) => number,
  steps: number,
  limit?: (price: number) => SelectionLimit | undefined,
): number[] {
  return Array.from({ length: steps }, (_, step) => {
    const { price } = controller;
    const reading = plant(price, step);
    controller.observe(reading, limit?.(price));
    return reading;
  });
}

const mean = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
const positive = (low: number, high: number) =>
  fc.double({ min: Math.log(low), max: Math.log(high), noNaN: true }).map(Math.exp);

describe("price controller", () => {
  it("meets the target on any power law within 60 steps", () => {
    check(
      fc.property(
        positive(0.25, 3.5),
        positive(1e-4, 1e4),
        positive(1e-4, 1e4),
        fc.constantFrom("falling" as const, "rising" as const),
        (elasticity, scale, target, response) => {
          const sign = response === "falling" ? -1 : 1;
          const controller = new PriceController({ target, response, initialPrice: 1 });
          const plant = (price: number) => scale * price ** (sign * elasticity);
          const reachable = Math.abs(Math.log(target / scale) / elasticity) < Math.log(1e9);
          fc.pre(reachable);
          const last = drive(controller, plant, 60).at(-1)!;
          expect(Math.abs(last / target - 1)).toBeLessThan(0.02);
        },
      ),
    );
  });

  it("keeps the mean at the target when readings are noisy", () => {
    check(
      fc.property(fc.integer(), positive(0.5, 2), (seed, elasticity) => {
        let state = seed >>> 0;
        const noise = () => {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
          return Math.exp(0.2 * (state / 2 ** 31 - 1));
        };
        const controller = new PriceController({
          target: 10,
          response: "falling",
          initialPrice: 1,
        });
        const readings = drive(controller, (p) => 100 * p ** -elasticity * noise(), 300);
        expect(Math.abs(mean(readings.slice(100)) / 10 - 1)).toBeLessThan(0.03);
      }),
      50,
    );
  });

  it("averages to the target where the reading jumps over it", () => {
    const controller = new PriceController({ target: 10, response: "falling", initialPrice: 1 });
    const readings = drive(controller, (price) => (price < 3 ? 20 : 5), 400);
    expect(Math.abs(mean(readings.slice(100)) / 10 - 1)).toBeLessThan(0.02);
  });

  it("follows a plant that changes", () => {
    const controller = new PriceController({ target: 10, response: "falling", initialPrice: 1 });
    drive(controller, (price) => 50 / price, 30);
    const later = drive(controller, (price) => 5000 / price ** 0.5, 30);
    expect(later.at(-1)! / 10).toBeCloseTo(1, 1);
  });

  it("holds no debt after a target out of reach (anti-windup)", () => {
    const controller = new PriceController({ target: 100, response: "falling", initialPrice: 1 });
    // Everything is kept at a reading of 40: no lower price can bring it to 100.
    const plant = (price: number) => Math.min(40, 40 / price);
    const limit = (price: number) => (price <= 1 ? ("all" as const) : undefined);
    drive(controller, plant, 200, limit);
    expect(controller.price).toBeGreaterThan(0.01);
    controller.target = 20;
    const readings = drive(controller, plant, 12, limit);
    expect(Math.abs(readings.at(-1)! / 20 - 1)).toBeLessThan(0.05);
  });

  it("stays within its bounds and moves by a bounded factor, whatever it reads", () => {
    const reading = fc.oneof(fc.double(), fc.constantFrom(0, -1, NaN, Infinity, 1e300, 5e-324));
    const limit = fc.constantFrom(undefined, "all" as const, "none" as const);
    check(
      fc.property(fc.array(fc.tuple(reading, limit), { maxLength: 60 }), (observations) => {
        const controller = new PriceController({
          target: 1,
          response: "falling",
          initialPrice: 1,
          minPrice: 1e-3,
          maxPrice: 1e3,
        });
        for (const [value, at] of observations) {
          const before = controller.price;
          controller.observe(value, at);
          expect(controller.price / before).toBeLessThan(5);
          expect(before / controller.price).toBeLessThan(5);
          expect(controller.price).toBeGreaterThanOrEqual(1e-3 * 0.999);
          expect(controller.price).toBeLessThanOrEqual(1e3 * 1.001);
        }
      }),
    );
  });

  const valid = { target: 1, response: "falling" as const, initialPrice: 1 };
  it.each([
    ["target", { ...valid, target: 0 }],
    ["target", { ...valid, target: Infinity }],
    ["initialPrice", { ...valid, initialPrice: -1 }],
    ["minPrice", { ...valid, minPrice: 0 }],
    ["maxPrice", { ...valid, maxPrice: NaN }],
    ["initialPrice", { ...valid, minPrice: 2 }],
  ])("refuses a %s that makes no sense", (path, options) => {
    expectError(() => new PriceController(options), "INVALID_REQUEST", path);
  });
});
