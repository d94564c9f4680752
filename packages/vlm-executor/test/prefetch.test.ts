/** What is remembered and foretold of plans, and how they are split, against sets of rows. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  estimatePlanNs,
  planFromMask,
  selectedRows,
  validatePlan,
} from "@neuron-chunking/latency-model";
import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import { PlanDifference } from "../src/prefetch/plan-difference.js";
import { PlanExcerpt } from "../src/prefetch/plan-excerpt.js";
import { PlanMemory } from "../src/prefetch/plan-memory.js";
import { PlanWorkspace } from "../src/prefetch/plan-workspace.js";
import {
  anyMask,
  anyRowBytes,
  anyTable,
  chunksOf,
  matrix,
  NONE,
  rowsOf,
  tableOf,
  twoMasks,
} from "./support/prefetch-plans.js";

const SEED = Number(process.env["FC_SEED"] ?? Date.now() % 2 ** 31);
console.log(`fast-check seed ${SEED}`);
const RUNS = { seed: SEED, numRuns: 400 };

describe("the memory of plans", () => {
  it("gives each matrix's last plan back, whatever was remembered of others", () => {
    const steps = fc.array(
      fc.record({
        at: fc.integer({ min: 0, max: 2 }),
        seed: fc.integer(),
        share: fc.integer({ min: 0, max: 8 }),
      }),
      { maxLength: 12 },
    );
    const sizes = fc.tuple(...[1, 2, 3].map(() => fc.integer({ min: 1, max: 200 })));
    fc.assert(
      fc.property(sizes, steps, (rows, events) => {
        const matrices = rows.map((count, i) => matrix(`m${i}`, count));
        const memory = new PlanMemory(matrices);
        const into = new PlanWorkspace(Math.max(...rows));
        const expected = new Map<number, ChunkPlan>();
        for (const { at, seed, share } of events) {
          let state = seed >>> 0;
          const mask = Array.from({ length: rows[at] }, () => {
            state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
            return state / 2 ** 32 < share / 8;
          });
          const plan = planFromMask(mask);
          memory.remember(matrices[at], plan);
          expected.set(at, plan);
          for (const [i, info] of matrices.entries()) {
            expect(memory.recall(info, into)).toBe(expected.has(i));
            expect(chunksOf(into)).toEqual(chunksOf(expected.get(i) ?? NONE));
          }
        }
      }),
      RUNS,
    );
  });

  it("knows nothing of a matrix that was not announced", () => {
    const memory = new PlanMemory([matrix("a", 8)]);
    const into = new PlanWorkspace(8);
    memory.remember(matrix("b", 8), planFromMask([true]));
    expect(memory.recall(matrix("b", 8), into)).toBe(false);
    expect(into.chunkCount).toBe(0);
  });

  it("takes a bit for each row", () => {
    expect(PlanMemory.bytesFor([matrix("a", 32), matrix("b", 33), matrix("c", 1)])).toBe(16);
  });
});

describe("what fits of a plan", () => {
  const take = (mask: boolean[], table: LatencyTable, rowBytes: number, limits: number[]) => {
    const plan = new PlanWorkspace(mask.length);
    const memory = new PlanMemory([matrix("m", mask.length)]);
    memory.remember(matrix("m", mask.length), planFromMask(mask));
    memory.recall(matrix("m", mask.length), plan);
    const excerpt = new PlanExcerpt(table);
    const [bytes, readNs, overheadBytes] = limits;
    excerpt.take(plan, rowBytes, { bytes, readNs, overheadBytes });
    return { plan, readNs: excerpt.readNs };
  };

  it("is rows of the plan, within bytes and time, no longer chunk left out for a shorter one", () => {
    const limits = fc.tuple(
      fc.integer({ min: 0, max: 200_000 }),
      fc.oneof(fc.constant(Infinity), fc.integer({ min: 0, max: 30_000 })),
      fc.constantFrom(0, 512, 8192),
    );
    fc.assert(
      fc.property(anyMask, anyTable, anyRowBytes, limits, (mask, table, rowBytes, limit) => {
        const { plan, readNs } = take(mask, table, rowBytes, limit);
        const [bytes, mostNs, overheadBytes] = limit;
        validatePlan(plan, mask.length);
        for (const row of rowsOf(plan)) expect(mask[row]).toBe(true);
        expect(selectedRows(plan) * rowBytes + plan.chunkCount * overheadBytes).toBeLessThanOrEqual(
          bytes,
        );
        expect(readNs).toBeCloseTo(estimatePlanNs(plan, rowBytes, table), 6);
        expect(readNs).toBeLessThanOrEqual(mostNs + 1e-6);
        // Chunks begin where those of the plan do.
        const whole = planFromMask(mask);
        const taken = new Map(chunksOf(plan).starts.map((start, c) => [start, plan.lengths[c]]));
        const left: number[] = [];
        const cut: number[] = [];
        for (let c = 0; c < whole.chunkCount; c++) {
          const length = taken.get(whole.starts[c]);
          taken.delete(whole.starts[c]);
          if (length === undefined) left.push(whole.lengths[c]);
          else if (length < whole.lengths[c]) cut.push(whole.lengths[c]);
        }
        expect(taken.size).toBe(0);
        expect(cut.length).toBeLessThanOrEqual(1);
        for (const length of left) {
          for (const [c, start] of chunksOf(plan).starts.entries()) {
            const full = whole.lengths[chunksOf(whole).starts.indexOf(start)];
            expect(Math.floor(Math.log2(full))).toBeGreaterThanOrEqual(
              Math.floor(Math.log2(length)),
            );
            expect(plan.lengths[c]).toBeGreaterThan(0);
          }
        }
      }),
      RUNS,
    );
  });

  it("is all of it where there is room and time, and as much as there is room for of one chunk", () => {
    const table = tableOf([100, 100, 100, 100]);
    const mask = new Array<boolean>(64).fill(true);
    expect(chunksOf(take(mask, table, 256, [64 * 256, Infinity, 0]).plan).lengths).toEqual([64]);
    expect(chunksOf(take(mask, table, 256, [10.5 * 256, Infinity, 0]).plan).lengths).toEqual([10]);
    expect(chunksOf(take(mask, table, 256, [64 * 256, 1650, 0]).plan).lengths).toEqual([16]);
    expect(take(mask, table, 256, [64 * 256, 99, 0]).plan.chunkCount).toBe(0);
  });
});

describe("the difference", () => {
  it("has each row of the plan once: there or missing", () => {
    fc.assert(
      fc.property(twoMasks, anyTable, anyRowBytes, ([wanted, read], table, rowBytes) => {
        const [plan, ahead] = [planFromMask(wanted), planFromMask(read)];
        const difference = new PlanDifference(wanted.length, table);
        difference.split(plan, ahead, rowBytes);
        const { present, missing } = difference;
        // The oracle: sets of rows.
        const there = new Set(rowsOf(present));
        const rest = new Set(rowsOf(missing));
        expect(there.size + rest.size).toBe(selectedRows(plan));
        expect([...there, ...rest].sort((a, b) => a - b)).toEqual(rowsOf(plan));
        for (const row of there) expect(read[row]).toBe(true);
        for (const row of rest) expect(wanted[row]).toBe(true);
        // Whatever was not read ahead is read now, and what is read again lies between such rows.
        for (const row of rowsOf(plan)) if (!read[row]) expect(rest.has(row)).toBe(true);
        const [starts, lengths] = [chunksOf(missing).starts, chunksOf(missing).lengths];
        for (const [c, start] of starts.entries()) {
          expect(read[start]).toBe(false);
          expect(read[start + lengths[c] - 1]).toBe(false);
        }
      }),
      RUNS,
    );
  });

  it("gives plans that readers take, and says which chunk each piece is part of", () => {
    fc.assert(
      fc.property(twoMasks, anyTable, anyRowBytes, ([wanted, read], table, rowBytes) => {
        const [plan, ahead] = [planFromMask(wanted), planFromMask(read)];
        const difference = new PlanDifference(wanted.length, table);
        difference.split(plan, ahead, rowBytes);
        const { present, missing } = difference;
        validatePlan(present, wanted.length);
        validatePlan(missing, wanted.length);
        for (let piece = 0; piece < present.chunkCount; piece++) {
          const source = present.sources[piece];
          expect(source).toBeLessThan(ahead.chunkCount);
          expect(present.starts[piece]).toBeGreaterThanOrEqual(ahead.starts[source]);
          const end = present.starts[piece] + present.lengths[piece];
          expect(end).toBeLessThanOrEqual(ahead.starts[source] + ahead.lengths[source]);
        }
      }),
      RUNS,
    );
  });

  it("never takes longer to read than the plan, nor than the bare difference", () => {
    fc.assert(
      fc.property(twoMasks, anyTable, anyRowBytes, ([wanted, read], table, rowBytes) => {
        const plan = planFromMask(wanted);
        const difference = new PlanDifference(wanted.length, table);
        difference.split(plan, planFromMask(read), rowBytes);
        const ns = estimatePlanNs(difference.missing, rowBytes, table);
        const bare = planFromMask(wanted.map((isWanted, row) => isWanted && !read[row]));
        expect(ns).toBeLessThanOrEqual(estimatePlanNs(plan, rowBytes, table) * (1 + 1e-12));
        expect(ns).toBeLessThanOrEqual(estimatePlanNs(bare, rowBytes, table) * (1 + 1e-12));
      }),
      RUNS,
    );
  });

  it("reads through what is there where a read of its own is dearer", () => {
    const wanted = new Array<boolean>(100).fill(true);
    const read = wanted.map((_, row) => row >= 40 && row < 44);
    const split = (latencyNs: number[]) => {
      const difference = new PlanDifference(100, tableOf(latencyNs));
      difference.split(planFromMask(wanted), planFromMask(read), 256);
      return chunksOf(difference.missing).lengths;
    };
    // 1 ns for each 256 bytes and 10000 for each read, or none.
    expect(split([10_001, ...new Array<number>(127).fill(1)])).toEqual([100]);
    expect(split(new Array<number>(128).fill(1))).toEqual([40, 56]);
  });

  it("is the same again in the same workspace", () => {
    const table = tableOf([1, 1, 1]);
    const difference = new PlanDifference(200, table);
    fc.assert(
      fc.property(twoMasks, ([wanted, read]) => {
        fc.pre(wanted.length <= 200);
        const [plan, ahead] = [planFromMask(wanted), planFromMask(read)];
        const fresh = new PlanDifference(200, table);
        difference.split(plan, ahead, 256);
        fresh.split(plan, ahead, 256);
        expect(chunksOf(difference.missing)).toEqual(chunksOf(fresh.missing));
        expect(chunksOf(difference.present)).toEqual(chunksOf(fresh.present));
      }),
      { ...RUNS, numRuns: 100 },
    );
  });
});
