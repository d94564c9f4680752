import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RandomSource, Sampler } from "../src/sampling.js";

describe("the random source", () => {
  it("gives the same numbers for a seed on every machine", () => {
    const random = new RandomSource(42);
    expect(Array.from({ length: 4 }, () => random.next())).toMatchInlineSnapshot(`
      [
        0.6606157226487994,
        0.12688010395504534,
        0.11170196393504739,
        0.8149394164793193,
      ]
    `);
  });

  it("is uniform enough, and different for near seeds", () => {
    const buckets = new Array<number>(16).fill(0);
    const random = new RandomSource(1);
    for (let i = 0; i < 16_000; i++) buckets[Math.floor(random.next() * 16)] += 1;
    // Standard deviation of a bucket is 31.
    for (const count of buckets) expect(Math.abs(count - 1000)).toBeLessThan(155);
    expect(new RandomSource(2).next()).not.toBe(new RandomSource(3).next());
    expect(new RandomSource(2 ** 40).next()).not.toBe(new RandomSource(0).next());
  });
});

describe("greedy sampling", () => {
  it("takes the first of the largest", () => {
    const sampler = new Sampler();
    expect(sampler.sample(Float32Array.of(1, 5, 5, -2))).toBe(1);
    expect(sampler.sample(Float32Array.of(-Infinity, -3))).toBe(1);
  });

  it.each([
    ["NaN", [1, NaN, 2]],
    ["infinity", [1, Infinity]],
    ["nothing finite", [-Infinity, -Infinity]],
  ])("refuses %s", (_name, logits) => {
    expect(() => new Sampler().sample(Float32Array.from(logits))).toThrow(/output for token/);
  });
});

describe("drawing", () => {
  const frequencies = (options: object, logits: number[], draws: number) => {
    const sampler = new Sampler({ seed: 5, ...options });
    const counts = new Array<number>(logits.length).fill(0);
    for (let i = 0; i < draws; i++) counts[sampler.sample(Float32Array.from(logits))] += 1;
    return counts.map((count) => count / draws);
  };

  it("follows softmax(logits / temperature)", () => {
    const logits = [0, 1, 2];
    for (const temperature of [0.5, 1, 2]) {
      const weights = logits.map((logit) => Math.exp(logit / temperature));
      const total = weights.reduce((a, b) => a + b);
      frequencies({ temperature }, logits, 20_000).forEach((share, id) => {
        expect(Math.abs(share - weights[id] / total)).toBeLessThan(0.02);
      });
    }
  });

  it("keeps the smallest set of likeliest tokens that holds topP", () => {
    const logits = [0.1, 0.5, 0.25, 0.15].map(Math.log);
    const drawn = (topP: number) =>
      frequencies({ temperature: 1, topP }, logits, 2000).flatMap((share, id) =>
        share > 0 ? [id] : [],
      );
    expect(drawn(0.5)).toEqual([1]);
    expect(drawn(0.51)).toEqual([1, 2]);
    expect(drawn(0.8)).toEqual([1, 2, 3]);
    expect(drawn(1)).toEqual([0, 1, 2, 3]);
  });

  it("never draws what has no probability, and always draws something", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.float({ noNaN: true, min: -50, max: 50 }), fc.constant(-Infinity)), {
          minLength: 1,
          maxLength: 40,
        }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        fc.double({ min: 0.1, max: 5, noNaN: true }),
        fc.integer(),
        (values, topP, temperature, seed) => {
          fc.pre(values.some(Number.isFinite));
          const logits = Float32Array.from(values);
          const id = new Sampler({ temperature, topP, seed }).sample(logits);
          expect(logits[id]).toBeGreaterThan(-Infinity);
        },
      ),
    );
  });
});
