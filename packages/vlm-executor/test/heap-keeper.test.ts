/** V8's heap under a budget: collected where it outgrows its part, and small again after something large was parsed. */
import { getHeapSpaceStatistics, getHeapStatistics } from "node:v8";
import { describe, expect, it } from "vitest";
import { HeapKeeper } from "../src/heap-keeper.js";

const MIB = 2 ** 20;

/** As parsing does: many small objects that live for a while, then none of them. */
function grow(): void {
  const kept: unknown[] = [];
  for (let i = 0; i < 1_000_000; i++) kept.push({ i, text: [i] });
  expect(kept).toHaveLength(1_000_000);
}

const youngBytes = (): number =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")!.space_size;

describe("HeapKeeper", () => {
  it("collects once the heap outgrew its limit, and not before", () => {
    grow();
    const before = getHeapStatistics().used_heap_size;
    new HeapKeeper(Infinity, Infinity).check();
    expect(getHeapStatistics().used_heap_size).toBeGreaterThanOrEqual(before - MIB);
    new HeapKeeper(1, Infinity).check();
    expect(getHeapStatistics().used_heap_size).toBeLessThan(before - 16 * MIB);
  });

  it("frees arrays that outgrew their limit, and keeps the limit", () => {
    const make = (): void => {
      for (let i = 0; i < 8; i++) new Uint8Array(8 * MIB).fill(1);
    };
    const limit = getHeapStatistics().external_memory + 16 * MIB;
    const keeper = new HeapKeeper(Infinity, limit);
    for (let time = 0; time < 2; time++) {
      make();
      expect(getHeapStatistics().external_memory).toBeGreaterThan(limit);
      keeper.check();
      expect(getHeapStatistics().external_memory).toBeLessThan(limit);
    }
  });

  it("makes a grown young generation small, and it stays so", async () => {
    grow();
    grow();
    expect(youngBytes()).toBeGreaterThan(8 * MIB);
    new HeapKeeper(Infinity, Infinity).settle();
    await expect.poll(youngBytes, { timeout: 20_000 }).toBeLessThanOrEqual(4 * MIB);
    // Kept small by a flag that is set when the event loop comes round again.
    await new Promise((resolve) => setTimeout(resolve, 0));
    grow();
    new HeapKeeper(1, Infinity).check();
    expect(youngBytes()).toBeLessThanOrEqual(4 * MIB);
  });
});
