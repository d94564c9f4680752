/** When rows are read ahead, and what a model's matrices see of it from pass to pass. */
import { describe, expect, it } from "vitest";
import { maskFromPlan, planFromMask, selectedRows } from "@neuron-chunking/latency-model";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import { expectedGainNs, PrefetchRule } from "../src/prefetch/prefetch-rule.js";
import { Prefetcher } from "../src/prefetch/prefetcher.js";
import type { PrefetchMode } from "../src/prefetch/prefetcher.js";
import { chunksOf, matrix, NONE, rowsOf, tableOf } from "./support/prefetch-plans.js";

describe("the rule", () => {
  it("weighs what is hidden against what is held up and wasted", () => {
    expect(expectedGainNs(1000, 1, 1000)).toBe(1000);
    expect(expectedGainNs(1000, 1, 400)).toBe(400);
    expect(expectedGainNs(1000, 0.5, 1000)).toBe(0);
    expect(expectedGainNs(1000, 0.25, 1000)).toBe(-500);
    expect(expectedGainNs(1000, 0.75, 600)).toBe(100);
  });

  /** Decides `times` times, telling the rule how well it goes, and counts what it did. */
  function live(rule: PrefetchRule, times: number, useful: number, gain: number, idleNs = 1000) {
    const counts = { read: 0, watch: 0, nothing: 0 };
    for (let i = 0; i < times; i++) {
      const action = rule.decide();
      counts[action] += 1;
      rule.observeIdle(idleNs);
      if (action !== "nothing") rule.observeForetold(useful * idleNs, idleNs);
      rule.observeSpan(action === "read", 1e6 * (action === "read" ? 1 - gain : 1) + (i % 7));
    }
    return counts;
  }

  it("reads nothing before it has seen how that would go", () => {
    const rule = new PrefetchRule();
    for (let i = 0; i < 50; i++) expect(rule.decide()).toBe("watch");
    expect(rule.limitNs).toBe(Infinity);
  });

  it("reads where it gains, and tries the other way now and then", () => {
    const rule = new PrefetchRule();
    live(rule, 200, 0.9, 0.2);
    const { read, watch } = live(rule, 800, 0.9, 0.2);
    expect(rule.limitNs).toBeCloseTo(1000, 6);
    expect(read).toBeGreaterThan(700);
    expect(watch).toBeGreaterThan(10);
  });

  it("stops where it is foretold well and gains nothing all the same", () => {
    const rule = new PrefetchRule();
    live(rule, 200, 0.9, -0.05);
    const { read } = live(rule, 800, 0.9, -0.05);
    expect(read).toBeLessThan(100);
    expect(read).toBeGreaterThan(10);
  });

  it("never reads where more would be wasted than hidden, and notices when that changes", () => {
    const rule = new PrefetchRule();
    const { read, nothing } = live(rule, 400, 0.45, 0.2);
    expect(read).toBe(0);
    expect(nothing).toBeGreaterThan(300);
    live(rule, 2000, 0.95, 0.2);
    expect(live(rule, 100, 0.95, 0.2).read).toBeGreaterThan(80);
  });
});

describe("a prefetcher", () => {
  const table = tableOf([100, 100, 100, 100]);
  const layers = ["a", "b", "c"].map((name) => matrix(name, 64));
  const all = planFromMask(new Array<boolean>(64).fill(true));
  const make = (mode: PrefetchMode, now?: () => number) =>
    new Prefetcher(layers, table, { mode, ...(now === undefined ? {} : { now }) });
  /** Passes through the layers, each matrix with its plan, as an executor does it. */
  function passes(prefetcher: Prefetcher) {
    let ahead: ChunkPlan = NONE;
    return (plans: readonly ChunkPlan[]) =>
      layers.map((info, i) => {
        const { present, missing } = prefetcher.difference(info, plans[i], ahead, "decode", 1e6);
        const found = { present: rowsOf(present), missing: rowsOf(missing) };
        const next = prefetcher.follower(info);
        ahead = next === undefined ? NONE : prefetcher.predict(next, "decode", 1e6);
        prefetcher.done(info, "decode");
        return found;
      });
  }

  it("knows who follows whom after one pass", () => {
    const prefetcher = make("always");
    passes(prefetcher)([all, all, all]);
    expect(layers.map((info) => prefetcher.follower(info)?.name)).toEqual(["b", "c", undefined]);
    prefetcher.difference(layers[0], all, NONE, "decode");
    expect(prefetcher.follower(layers[2])?.name).toBe("a");
  });

  it("reads the last plan ahead, and counts what of it was of use", () => {
    const prefetcher = make("always");
    const masks = (seed: number) =>
      layers.map((_, i) =>
        Array.from({ length: 64 }, (_row, row) => ((row >> 3) + i + seed) % 3 !== 0),
      );
    const pass = passes(prefetcher);
    let [before, ahead, used] = [masks(0), 0, 0];
    pass(before.map(planFromMask));
    for (const [number, seed] of [1, 1, 2, 0].entries()) {
      const wanted = masks(seed);
      for (const [i, { present, missing }] of pass(wanted.map(planFromMask)).entries()) {
        const rows = rowsOf(planFromMask(wanted[i]));
        // That the first matrix follows the last is seen in the second pass.
        const isForetold = i > 0 || number > 0;
        expect(present).toEqual(rows.filter((row) => isForetold && before[i][row]));
        expect([...present, ...missing].sort((a, b) => a - b)).toEqual(rows);
        used += 256 * present.length;
        if (isForetold) ahead += 256 * before[i].filter(Boolean).length;
      }
      before = wanted;
    }
    expect(prefetcher.totals).toEqual({ bytesAhead: ahead, bytesUsed: used });
    // The next pass never comes.
    prefetcher.abandon();
    ahead += 256 * before[0].filter(Boolean).length;
    expect(prefetcher.totals).toEqual({ bytesAhead: ahead, bytesUsed: used });
  });

  it("foretells dense passes exactly, the first included, as far as there is room", () => {
    const prefetcher = make("always");
    for (const info of layers) prefetcher.expectAll(info, 4);
    expect(chunksOf(prefetcher.predict(layers[1], "prefill", 20 * 256))).toEqual({
      starts: [4],
      lengths: [20],
    });
    const rest = planFromMask(Array.from({ length: 64 }, (_, row) => row >= 4));
    const ahead = prefetcher.predict(layers[1], "prefill", 20 * 256);
    const { present, missing } = prefetcher.difference(layers[1], rest, ahead, "prefill");
    expect(rowsOf(present)).toEqual(
      rowsOf(planFromMask(Array.from({ length: 24 }, (_, row) => row >= 4))),
    );
    expect(selectedRows(missing)).toBe(40);
    // The first foretelling was never asked for.
    expect(prefetcher.totals).toEqual({ bytesAhead: 40 * 256, bytesUsed: 20 * 256 });
  });

  it("takes nothing for granted that failed, belongs to another matrix, or was abandoned", () => {
    const prefetcher = make("always");
    for (const info of layers) prefetcher.expectAll(info);
    prefetcher.predict(layers[1], "decode", 1e6);
    expect(selectedRows(prefetcher.difference(layers[1], all, NONE, "decode").missing)).toBe(64);
    const ahead = prefetcher.predict(layers[1], "decode", 1e6);
    const other = prefetcher.difference(layers[2], all, ahead, "decode");
    expect([selectedRows(other.present), selectedRows(other.missing)]).toEqual([0, 64]);
    expect(prefetcher.totals).toEqual({ bytesAhead: 64 * 256, bytesUsed: 0 });
    prefetcher.predict(layers[1], "decode", 10 * 256);
    prefetcher.abandon();
    expect(prefetcher.totals).toEqual({ bytesAhead: 74 * 256, bytesUsed: 0 });
    prefetcher.abandon();
    expect(prefetcher.totals.bytesAhead).toBe(74 * 256);
  });

  it("has nothing to read for no room, nothing known and an empty plan", () => {
    const prefetcher = make("always");
    expect(prefetcher.predict(layers[0], "decode", 1e6).chunkCount).toBe(0);
    expect(selectedRows(prefetcher.difference(layers[0], all, NONE, "decode").missing)).toBe(64);
    const none = prefetcher.predict(layers[0], "decode", 255);
    expect(none.chunkCount).toBe(0);
    const half = planFromMask(Array.from({ length: 64 }, (_, row) => row < 32));
    expect(selectedRows(prefetcher.difference(layers[0], half, none, "decode").missing)).toBe(32);
    const ahead = prefetcher.predict(layers[0], "decode", 1e6);
    expect(selectedRows(ahead)).toBe(32);
    const { present, missing } = prefetcher.difference(layers[0], NONE, ahead, "decode");
    expect([present.chunkCount, missing.chunkCount]).toEqual([0, 0]);
  });

  it.each([
    ["turns itself on where it gains", 0.2, 0.85, 1],
    ["stays off where it does not", -0.1, 0, 0.15],
  ])("%s", (_, gain, least, most) => {
    let ns = 0;
    const prefetcher = make("auto", () => ns);
    let [read, all3] = [0, 0];
    for (let i = 0; i < 400; i++) {
      let ahead: ChunkPlan = NONE;
      for (const info of layers) {
        const isRead = ahead.chunkCount > 0;
        prefetcher.difference(info, all, ahead, "frames", 5000);
        ns += 1e5 * (isRead ? 1 - gain : 1);
        ahead = prefetcher.predict(prefetcher.follower(info) ?? info, "frames", 1e6);
        if (i > 100) {
          all3 += 1;
          if (ahead.chunkCount > 0) read += 1;
        }
        // The arithmetic still goes on.
        ns += 1e3;
        prefetcher.done(info, "frames");
      }
    }
    expect(read / all3).toBeGreaterThanOrEqual(least);
    expect(read / all3).toBeLessThanOrEqual(most);
  });

  it("reads ahead no longer than the drive is idle", () => {
    let ns = 0;
    const prefetcher = make("auto", () => (ns += 10));
    // 64 rows take 6400 ns.
    let ahead: ChunkPlan = NONE;
    let most = 0;
    for (let i = 0; i < 300; i++) {
      for (const info of layers) {
        prefetcher.difference(info, all, ahead, "decode", 1650);
        ahead = prefetcher.predict(prefetcher.follower(info) ?? info, "decode", 1e6);
        most = Math.max(most, selectedRows(ahead));
        prefetcher.done(info, "decode");
      }
    }
    expect(most).toBe(16);
  });

  it("says how much memory it takes, little more than a bit for each row", () => {
    const model = Array.from({ length: 28 }, (_, layer) => [
      matrix(`${layer}.attn_in`, 3584),
      matrix(`${layer}.attn_out`, 3584),
      matrix(`${layer}.mlp_in`, 3584),
      matrix(`${layer}.mlp_out`, 18944),
    ]).flat();
    const bits = (28 * (3 * 3584 + 18944)) / 8;
    expect(Prefetcher.bytesFor(model)).toBeGreaterThan(bits);
    expect(Prefetcher.bytesFor(model)).toBeLessThan(bits + 16 * 18944);
  });

  it("keeps no reference to the caller's plans", () => {
    const prefetcher = make("always");
    const plan = { starts: Uint32Array.of(3), lengths: Uint32Array.of(5), chunkCount: 1 };
    prefetcher.difference(layers[0], plan, NONE, "decode");
    plan.starts[0] = 40;
    expect(maskFromPlan(prefetcher.predict(layers[0], "decode", 1e6), 64).indexOf(1)).toBe(3);
  });
});
