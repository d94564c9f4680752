import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planFromMask, planFromRows, ReadRequests, type ChunkPlan } from "../src/index.js";
import { expectError } from "./expect-error.js";
import { naiveRequests } from "./naive.js";
import { check } from "./property.js";

function requestsOf(
  plan: ChunkPlan,
  rowBytes: number,
  readThroughBytes: number,
  maxRequestBytes: number,
): number[] {
  const requests = new ReadRequests();
  requests.fill(plan, rowBytes, { readThroughBytes, maxRequestBytes });
  return Array.from(requests.sizesBytes.slice(0, requests.count));
}

describe("requests of a plan", () => {
  const rows = [0, 1, 3, 10, 11];
  test.each([
    ["chunks as they are", rows, 0, 1000, [200, 100, 200]],
    ["a gap of one row read through", rows, 100, 1000, [400, 200]],
    ["a gap that is a byte too long", rows, 99, 1000, [200, 100, 200]],
    ["a span of exactly twice the bytes wanted", [0, 2, 3, 6, 9], 200, 1000, [1000]],
    ["a span of more than twice the bytes wanted", [0, 4, 8], 300, 1000, [100, 100, 100]],
    // Rows 0 and 2 alone span 3 rows for 2; with row 6 they would span 7 for 3.
    ["a run that may not grow further", [0, 2, 6], 300, 1000, [300, 100]],
    ["a request of exactly the most", [0, 1], 0, 200, [200]],
    ["a request a byte longer", [0, 1], 0, 199, [100, 100]],
    ["parts that are not quite equal", [0], 0, 30, [25, 25, 25, 25]],
    ["parts that differ by a byte", [0], 0, 40, [34, 33, 33]],
    ["a merged run that is split", rows, 100, 150, [134, 133, 133, 100, 100]],
    ["an empty plan", [], 100, 1000, []],
  ])("R3: %s", (_, selected, readThroughBytes, maxRequestBytes, expected) => {
    expect(requestsOf(planFromRows(selected), 100, readThroughBytes, maxRequestBytes)).toEqual(
      expected,
    );
  });

  test("R3: agree with the rules restated on lists, for any plan, row size and limits", () => {
    check(
      fc.property(
        fc.array(fc.boolean(), { maxLength: 300 }),
        fc.integer({ min: 1, max: 40_000 }),
        fc.integer({ min: 0, max: 10 }),
        fc.integer({ min: 1, max: 2_000_000 }),
        (mask, rowBytes, gapRows, maxRequestBytes) => {
          fc.pre((300 * rowBytes) / maxRequestBytes < 50_000);
          const plan = planFromMask(mask);
          const readThroughBytes = gapRows * rowBytes;
          const expected = naiveRequests(plan, rowBytes, readThroughBytes, maxRequestBytes);
          expect(requestsOf(plan, rowBytes, readThroughBytes, maxRequestBytes)).toEqual(expected);
        },
      ),
    );
  });

  test("keep their memory between plans, and grow for a plan that needs more", () => {
    const requests = new ReadRequests();
    const limits = { readThroughBytes: 0, maxRequestBytes: 1 << 20 };
    const large = planFromRows(Array.from({ length: 5000 }, (_, i) => 2 * i));
    requests.fill(large, 896, limits);
    expect(requests.count).toBe(5000);
    const memory = requests.sizesBytes;
    requests.fill(planFromRows([3]), 37888, limits);
    expect([requests.count, requests.sizesBytes[0]]).toEqual([1, 37888]);
    requests.fill(large, 1792, limits);
    expect(requests.sizesBytes).toBe(memory);
  });

  test("entries of a plan past its chunkCount do not count", () => {
    const plan = { starts: Uint32Array.of(0, 9), lengths: Uint32Array.of(2, 5), chunkCount: 1 };
    expect(requestsOf(plan, 10, 1000, 1000)).toEqual([20]);
  });

  test.each([0, -1, 1.5, NaN])("row size %d is refused", (rowBytes) => {
    expectError(
      () => requestsOf(planFromRows([0]), rowBytes, 0, 1),
      "INVALID_ARGUMENT",
      "rowBytes",
    );
  });
});
