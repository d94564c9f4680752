import { ReadRequests } from "@neuron-chunking/latency-model";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PlanLayout } from "../src/ranges.js";
import { RequestPlanner, Views } from "../src/ranges.js";
import { planNaively } from "./naive-planner.js";
import { effort, testSeed, toRanges } from "./support.js";

const PATH = "weights.bin";
const MAX_REQUEST_BYTES = 1 << 20;
const LIMITS = { maxRequestBytes: MAX_REQUEST_BYTES, readThroughBytes: 0 };

function planned(
  sizeBytes: number,
  alignmentBytes: number,
  pairs: readonly (readonly [number, number])[],
  limits = LIMITS,
) {
  const planner = new RequestPlanner({ path: PATH, sizeBytes, alignmentBytes }, limits);
  const views = new Views();
  planner.planRanges(toRanges(pairs), views, true);
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

/**
 * Ranges whose overlaps, lengths and gaps are all of one order, that of the gaps read through, so that
 * every case distinction is met: for any alignment, and in any order.
 */
const planCase = fc
  .record({
    alignmentBytes: fc.constantFrom(1, 512, 4096),
    maxRequestBytes: fc.oneof(
      fc.integer({ min: 4096, max: 40_000 }),
      fc.constantFrom(4096, 65_536, 1 << 20),
    ),
    unitBytes: fc.constantFrom(1, 97, 1000),
    readThroughUnits: fc.nat(20),
    steps: fc.array(
      fc.record({
        gap: fc.integer({ min: -15, max: 20 }),
        length: fc.integer({ min: 1, max: 20 }),
      }),
      { maxLength: 40 },
    ),
    shuffle: fc.boolean(),
  })
  .map(({ steps, shuffle, unitBytes, readThroughUnits, ...rest }) => {
    const limits = { ...rest, readThroughBytes: readThroughUnits * unitBytes };
    let at = 20 * unitBytes;
    const pairs = steps.map(({ gap, length }) => {
      const offset = Math.max(0, at + gap * unitBytes);
      at = offset + length * unitBytes;
      return [offset, length * unitBytes] as const;
    });
    // Any fixed order that is not ascending will do.
    if (shuffle) pairs.sort((a, b) => (a[0] % 997) - (b[0] % 997));
    return { limits, pairs };
  });

describe("R3: merging, reading through and splitting", () => {
  const SIZE_BYTES = 2 ** 40;

  it("are those of a naive model for any ranges, limits and alignment", () => {
    let readThrough = 0;
    let split = 0;
    fc.assert(
      fc.property(planCase, ({ limits, pairs }) => {
        const { alignmentBytes, ...rest } = limits;
        const { requests, views } = planned(SIZE_BYTES, alignmentBytes, pairs, rest);
        const naive = planNaively(pairs, limits);
        expect(requests.map(({ offset, length }) => [offset, length])).toEqual(naive.requests);
        expect(Array.from(views.offsetsBytes.subarray(0, pairs.length))).toEqual(naive.landings);
        const without = planNaively(pairs, { ...limits, readThroughBytes: 0 });
        if (sum(naive.requests) > sum(without.requests)) readThrough++;
        if (requests.some((request) => request.length > limits.maxRequestBytes / 2)) split++;
      }),
      { seed: testSeed(), numRuns: effort(1000, 10_000) },
    );
    // The cases would be worth little if they met none of it.
    expect(readThrough).toBeGreaterThan(10);
    expect(split).toBeGreaterThan(10);
  });

  it("read at most as many bytes of gaps as are wanted, in no more requests for spans", () => {
    fc.assert(
      fc.property(planCase, ({ limits, pairs }) => {
        const { alignmentBytes, ...rest } = limits;
        const unsplit = { ...rest, maxRequestBytes: 2 ** 30 };
        const planner = new RequestPlanner(
          { path: PATH, sizeBytes: SIZE_BYTES, alignmentBytes },
          unsplit,
        );
        planner.planRanges(toRanges(pairs), new Views(), false);
        const without = { bytes: planner.landingBytes, requests: planner.requestCount };
        planner.planRanges(toRanges(pairs), new Views(), true);
        const { landingBytes, requestCount, wantedBytes } = planner;
        expect(landingBytes - without.bytes).toBeLessThanOrEqual(wantedBytes);
        expect(requestCount).toBeLessThanOrEqual(without.requests);
        expect(landingBytes - without.bytes).toBeLessThanOrEqual(
          (without.requests - requestCount) * limits.readThroughBytes,
        );
        if (alignmentBytes === 1) expect(landingBytes).toBeLessThanOrEqual(2 * wantedBytes);
      }),
      { seed: testSeed(), numRuns: 500 },
    );
  });

  it("are what the latency model takes them for", () => {
    const model = new ReadRequests();
    const cuts = fc.uniqueArray(fc.nat(400), { minLength: 2, maxLength: 60 });
    const rowBytes = fc.constantFrom(512, 4096, 18_944);
    const limits = fc.record({
      readThroughBytes: fc.constantFrom(0, 4096, 40_000),
      maxRequestBytes: fc.constantFrom(4096, 65_536, 1 << 20),
    });
    fc.assert(
      fc.property(cuts, rowBytes, limits, (sortedOrNot, row, tuning) => {
        const sorted = [...sortedOrNot].sort((a, b) => a - b);
        const chunkCount = sorted.length >> 1;
        const starts = Uint32Array.from({ length: chunkCount }, (_, i) => sorted[2 * i]);
        const plan = { starts, lengths: starts.map((s, i) => sorted[2 * i + 1] - s), chunkCount };
        // Every byte may be read alone, because the model leaves alignment out.
        const planner = new RequestPlanner(
          { path: PATH, sizeBytes: SIZE_BYTES, alignmentBytes: 1 },
          tuning,
        );
        const layout: PlanLayout = { baseOffsetBytes: 0, rowBytes: row };
        planner.planChunks(plan, layout, new Views(), true);
        model.fill(plan, row, tuning);
        expect(planner.requestCount).toBe(model.count);
        const lengths = Array.from(
          { length: model.count },
          (_, i) => planner.requests[3 * i + 1] - model.sizesBytes[i],
        );
        // Equal parts, but for what does not divide.
        const most = Math.max(0, ...lengths.map(Math.abs));
        expect(most).toBeLessThanOrEqual(model.count);
        expect(planner.landingBytes).toBe(
          model.sizesBytes.subarray(0, model.count).reduce((a, b) => a + b, 0),
        );
      }),
      { seed: testSeed(), numRuns: 300 },
    );
  });
});

function sum(requests: readonly (readonly [number, number])[]): number {
  return requests.reduce((total, [, length]) => total + length, 0);
}

describe("R7: request planning", () => {
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

  it("R3: splits long reads into equal aligned parts of at most 1 MiB", () => {
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
    const planner = new RequestPlanner(
      { path: PATH, sizeBytes: 1 << 22, alignmentBytes: 512 },
      LIMITS,
    );
    const views = new Views();
    const plan = {
      starts: Uint32Array.of(0, 7, 300, 0),
      lengths: Uint32Array.of(2, 1, 50, 9),
      chunkCount: 3,
    };
    planner.planChunks(plan, { baseOffsetBytes: 4096, rowBytes: 1792 }, views, true);
    const byPlan = Array.from(planner.requests.subarray(0, 3 * planner.requestCount));
    const wanted = planner.wantedBytes;
    planner.planRanges(
      toRanges([
        [4096, 2 * 1792],
        [4096 + 7 * 1792, 1792],
        [4096 + 300 * 1792, 50 * 1792],
      ]),
      views,
      true,
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
    const planner = new RequestPlanner({ path: PATH, sizeBytes: 1000, alignmentBytes: 1 }, LIMITS);
    const two = new Float64Array(2).fill(1);
    for (const count of [3, -1, 1.5, NaN]) {
      expect(() => {
        planner.planRanges({ offsetsBytes: two, lengthsBytes: two, count }, new Views(), true);
      }).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
  });
});
