import fc from "fast-check";
import { expect, test } from "vitest";
import { Candidates } from "../src/candidates.js";
import { check } from "./property.js";

/** Ordinals by descending score, first added first, by a stable comparator sort. */
function naiveOrder(scores: number[]): number[] {
  return [...scores.keys()].sort((a, b) => scores[b] - scores[a]);
}

function sortedOrder(candidates: Candidates, scores: number[]): number[] {
  candidates.reset(scores.length);
  candidates.scores.set(scores);
  candidates.count = scores.length;
  candidates.spread();
  let from = 0;
  for (let bucket = 0; bucket < candidates.bucketCount; bucket++) {
    candidates.sort(from, candidates.bucketEnds[bucket]);
    from = candidates.bucketEnds[bucket];
  }
  expect(from).toBe(scores.length);
  return Array.from(candidates.order.subarray(0, scores.length));
}

const float = fc.float({ min: 0, noNaN: true, noDefaultInfinity: true });
const narrow = fc.integer({ min: 0, max: 50 }).map((ulps) => Math.fround(1 + ulps * 2 ** -23));
const octaves = fc.integer({ min: -149, max: 127 }).map((exponent) => 2 ** exponent);

// One instance for all cases: nothing of one sort may leak into the next.
const candidates = new Candidates();

test.each([
  ["any floats", float],
  ["neighbouring floats", narrow],
  ["powers of two over the whole range", octaves],
  ["neighbours and one that is far above", fc.oneof({ weight: 30, arbitrary: narrow }, octaves)],
  ["zeros and floats", fc.oneof(fc.constant(0), float)],
  ["one value", fc.constant(5)],
])("sorts stably and descending: %s", (_, arbitrary) => {
  check(
    fc.property(fc.array(arbitrary, { minLength: 1, maxLength: 400 }), (values) => {
      expect(sortedOrder(candidates, values)).toEqual(naiveOrder(values));
    }),
    300,
  );
});

test("sorts 50,000 scores of which most share the last bucket", () => {
  const scores = Array.from({ length: 50_000 }, (_, i) => ((i * 7919) % 4001) * 1e-30);
  scores[31_000] = 1;
  const rounded = Array.from(Float32Array.from(scores));
  expect(sortedOrder(candidates, rounded)).toEqual(naiveOrder(rounded));
});

test("memory is kept when a smaller set follows, and grows by half when more is needed", () => {
  const own = new Candidates();
  own.reset(100);
  const { order } = own;
  own.reset(40);
  own.reset(150);
  expect(own.order).toBe(order);
  own.reset(151);
  expect(own.order.length).toBe(226);
});
