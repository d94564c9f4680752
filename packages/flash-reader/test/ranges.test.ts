import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_REQUEST_BYTES, RequestPlanner, Views } from "../src/ranges.js";
import { testSeed, toRanges } from "./support.js";

const PATH = "weights.bin";

function planned(
  sizeBytes: number,
  alignmentBytes: number,
  pairs: readonly (readonly [number, number])[],
) {
  const planner = new RequestPlanner({ path: PATH, sizeBytes, alignmentBytes });
  const views = new Views();
  planner.planRanges(toRanges(pairs), views);
  const requests = Array.from({ length: planner.requestCount }, (_, i) => ({
    offset: planner.requests[3 * i],
    length: planner.requests[3 * i + 1],
    landing: planner.requests[3 * i + 2],
  }));
  return { planner, views, requests };
}

const pairsIn = (sizeBytes: number, maxLength: number) =>
  fc.array(
    fc
      .tuple(fc.nat(sizeBytes - 1), fc.integer({ min: 1, max: maxLength }))
      .map(([offset, length]) => [offset, Math.min(length, sizeBytes - offset)] as const),
    { maxLength: 60 },
  );

describe("request planning (R7)", () => {
  it("covers every wanted byte once, aligned, without overlap, and says where it lands", () => {
    const sizeBytes = 1_000_003;
    const cases = fc.record({
      alignment: fc.constantFrom(1, 512, 4096),
      pairs: pairsIn(sizeBytes, 40_000),
      sorted: fc.boolean(),
    });
    fc.assert(
      fc.property(cases, ({ alignment, pairs, sorted }) => {
        const wanted = sorted ? [...pairs].sort((a, b) => a[0] - b[0]) : pairs;
        const { planner, views, requests } = planned(sizeBytes, alignment, wanted);
        const fetched = new Map<number, number>();
        let landing = 0;
        let previousEnd = -1;
        for (const request of requests) {
          expect(request.offset % alignment).toBe(0);
          expect(request.length % alignment).toBe(0);
          expect(request.length).toBeGreaterThan(0);
          expect(request.length).toBeLessThanOrEqual(MAX_REQUEST_BYTES);
          expect(request.offset).toBeLessThan(sizeBytes);
          expect(request.landing).toBe(landing);
          expect(request.offset).toBeGreaterThanOrEqual(previousEnd);
          previousEnd = request.offset + request.length;
          landing += request.length;
          for (let block = 0; block < request.length; block += alignment) {
            if (alignment > 1) fetched.set(request.offset + block, request.landing + block);
          }
        }
        expect(planner.landingBytes).toBe(landing);
        expect(planner.wantedBytes).toBe(wanted.reduce((sum, [, length]) => sum + length, 0));
        if (alignment === 1) return;
        wanted.forEach(([offset, length], i) => {
          const first = offset - (offset % alignment);
          for (let block = first; block < offset + length; block += alignment) {
            // The landing keeps file order inside one range, so one view is enough for it.
            expect(fetched.get(block)).toBe(views.offsetsBytes[i] + (block - offset));
          }
        });
      }),
      { seed: testSeed(), numRuns: 200 },
    );
  });

  it("merges ranges that share or touch blocks, and only those", () => {
    const { requests } = planned(1 << 20, 512, [
      [0, 100],
      [200, 100],
      [512, 10],
      [2048, 1],
    ]);
    expect(requests.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 1024],
      [2048, 512],
    ]);
  });

  it("splits long reads into equal aligned parts of at most 1 MiB (R3)", () => {
    const { requests, views } = planned(1 << 24, 4096, [[4096, (5 << 20) + 1]]);
    expect(requests).toHaveLength(6);
    const lengths = requests.map((request) => request.length);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(MAX_REQUEST_BYTES);
    expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(6 * 4096);
    expect(views.offsetsBytes[0]).toBe(0);
  });

  it("asks for the last block even though it passes the end of the file", () => {
    const { requests } = planned(1000, 512, [[990, 10]]);
    expect(requests).toEqual([{ offset: 512, length: 512, landing: 0 }]);
  });

  it("plans the rows of a chunk plan like the same byte ranges", () => {
    const planner = new RequestPlanner({ path: PATH, sizeBytes: 1 << 22, alignmentBytes: 512 });
    const views = new Views();
    const plan = {
      starts: Uint32Array.of(0, 7, 300, 0),
      lengths: Uint32Array.of(2, 1, 50, 9),
      chunkCount: 3,
    };
    planner.planChunks(plan, { baseOffsetBytes: 4096, rowBytes: 1792 }, views);
    const byPlan = Array.from(planner.requests.subarray(0, 3 * planner.requestCount));
    const wanted = planner.wantedBytes;
    planner.planRanges(
      toRanges([
        [4096, 2 * 1792],
        [4096 + 7 * 1792, 1792],
        [4096 + 300 * 1792, 50 * 1792],
      ]),
      views,
    );
    expect(byPlan).toEqual(Array.from(planner.requests.subarray(0, 3 * planner.requestCount)));
    expect(wanted).toBe(53 * 1792);
  });

  it("handles offsets past 4 GiB exactly", () => {
    const offset = 2 ** 45 + 1;
    const { requests, views } = planned(2 ** 46, 4096, [[offset, 4096]]);
    expect(requests).toEqual([{ offset: 2 ** 45, length: 8192, landing: 0 }]);
    expect(views.offsetsBytes[0]).toBe(1);
  });

  it.each([
    [[-1, 5]],
    [[0.5, 5]],
    [[0, 0]],
    [[0, -3]],
    [[0, 1.5]],
    [[NaN, 1]],
    [[0, NaN]],
    [[Infinity, 1]],
  ] as const)("rejects the range %j", (pair) => {
    expect(() => planned(1000, 512, [pair as unknown as readonly [number, number]])).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });

  it("names the range that passes the end", () => {
    expect(() =>
      planned(1000, 512, [
        [0, 10],
        [900, 101],
      ]),
    ).toThrow(
      expect.objectContaining({
        code: "OUT_OF_RANGE",
        path: PATH,
        offsetBytes: 900,
        lengthBytes: 101,
        expected: 1000,
      }),
    );
  });

  it("rejects counts that the arrays do not have", () => {
    const planner = new RequestPlanner({ path: PATH, sizeBytes: 1000, alignmentBytes: 1 });
    const two = new Float64Array(2).fill(1);
    for (const count of [3, -1, 1.5, NaN]) {
      expect(() => {
        planner.planRanges({ offsetsBytes: two, lengthsBytes: two, count }, new Views());
      }).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
  });
});
