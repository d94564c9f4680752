import { estimatePlanNs, selectedRows } from "@neuron-chunking/latency-model";
import type { ChunkPlan, LatencyTable } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { nowNs } from "../trace.js";
import type { Phase } from "../trace.js";
import { PlanDifference } from "./plan-difference.js";
import { PlanExcerpt } from "./plan-excerpt.js";
import { PlanMemory } from "./plan-memory.js";
import { mostChunks, PlanWorkspace } from "./plan-workspace.js";
import { PrefetchRule } from "./prefetch-rule.js";
import type { PrefetchAction } from "./prefetch-rule.js";

/**
 * - `auto`: where it is expected to gain and then does (`PrefetchRule`). What is read ahead then depends on times, and, as far
 *   as the order of sums does on it, so do the last bits of the output.
 * - `always`: whatever fits, each time; the same from run to run.
 */
export type PrefetchMode = "auto" | "always";

export interface PrefetcherOptions {
  readonly mode: PrefetchMode;
  /** What a chunk can take in a landing buffer beyond its rows; default 0. */
  readonly overheadBytesPerChunk?: number;
  /** A monotone clock, ns; default: the process's own. */
  readonly now?: () => number;
}

/** Bytes of rows, alignment aside. */
export interface PrefetchTotals {
  /** Read ahead. */
  bytesAhead: number;
  /** Of these, multiplied. The others were read in vain. */
  bytesUsed: number;
}

const NO_ROWS: ChunkPlan = {
  starts: new Uint32Array(0),
  lengths: new Uint32Array(0),
  chunkCount: 0,
};
/** Of the rules of a model of seven kinds of matrices in three phases, generously. */
const RULES_BYTES = 32 * 1024;

/** What was foretold and whether it is being read. */
interface Foretelling {
  info: BundleInfo | undefined;
  action: PrefetchAction;
  startNs: number;
  /** Modelled, of what was foretold. */
  readNs: number;
}

const noForetelling = (): Foretelling => ({
  info: undefined,
  action: "nothing",
  startNs: 0,
  readNs: 0,
});

/**
 * Speculative prefetch (DESIGN.md, better than the paper, 9): the last plan of a matrix foretells its next one, so that its reads
 * can start while the matrix before it is still multiplied, and only the difference is read when the plan is known. Pure
 * bookkeeping; whoever uses it reads. For one pass at a time:
 *
 *     // all reads of matrix i are submitted:
 *     const next = prefetcher.follower(i);
 *     const ahead = prefetcher.predict(next, phase, limitBytes);  // start reading it
 *     // the plan of `next` is known:
 *     const { present, missing } = prefetcher.difference(next, plan, ahead, phase, idleNs);
 *     // read `missing`, multiply both; then
 *     prefetcher.done(next);
 *
 * Memory is allocated when it is made ({@link Prefetcher.bytesFor}); no call allocates once it has seen the model.
 */
export class Prefetcher {
  readonly totals: PrefetchTotals = { bytesAhead: 0, bytesUsed: 0 };
  private readonly memory: PlanMemory;
  private readonly foretold: PlanWorkspace;
  private readonly excerpt: PlanExcerpt;
  private readonly split: PlanDifference;
  private readonly rules = new Map<Phase, Map<string, PrefetchRule>>();
  private readonly followers = new Map<string, BundleInfo>();
  private last: BundleInfo | undefined;
  /** From `predict` to `difference`. */
  private readonly awaited = noForetelling();
  /** From `difference` to `done`: the next is foretold meanwhile. */
  private readonly running = noForetelling();
  private readonly limits: { bytes: number; readNs: number; readonly overheadBytes: number };
  private readonly now: () => number;

  /**
   * @param matrices every stored matrix of the model
   * @param table prices reads, as selection does
   */
  constructor(
    matrices: readonly BundleInfo[],
    private readonly table: LatencyTable,
    private readonly options: PrefetcherOptions,
  ) {
    const maxRows = mostRows(matrices);
    this.memory = new PlanMemory(matrices);
    this.foretold = new PlanWorkspace(maxRows);
    this.excerpt = new PlanExcerpt(table);
    this.split = new PlanDifference(maxRows, table);
    this.limits = { bytes: 0, readNs: 0, overheadBytes: options.overheadBytesPerChunk ?? 0 };
    this.now = options.now ?? nowNs;
  }

  /** Bytes that a prefetcher of these matrices takes, landing buffers aside. */
  static bytesFor(matrices: readonly Pick<BundleInfo, "name" | "rows">[]): number {
    // Starts and lengths of what is foretold, present and missing; the sources of what is present.
    const words = 7 * mostChunks(mostRows(matrices));
    return PlanMemory.bytesFor(matrices) + words * Uint32Array.BYTES_PER_ELEMENT + RULES_BYTES;
  }

  /** The matrix whose plan came after this one's last time; the first follows the last of a pass. */
  follower(info: BundleInfo): BundleInfo | undefined {
    return this.followers.get(info.name);
  }

  /**
   * Expects every row from `residentRows` on until a plan is known: under the policy `dense` the first pass is foretold
   * too, and every pass exactly.
   */
  expectAll(info: BundleInfo, residentRows = 0): void {
    const { foretold } = this;
    foretold.clear();
    if (residentRows < info.rows) foretold.add(residentRows, info.rows);
    this.memory.remember(info, foretold);
  }

  /**
   * Rows of `info` to read before its plan is known: of its last plan what fits (see `PlanExcerpt`); none where nothing
   * is known or it would not pay. Valid until the next `predict`.
   *
   * @param phase of the pass that its plan is expected in
   * @param limitBytes size of the landing
   */
  predict(info: BundleInfo, phase: Phase, limitBytes: number): ChunkPlan {
    const { awaited, foretold, limits, excerpt } = this;
    const isAlways = this.options.mode === "always";
    this.drop();
    const rule = this.rule(phase, info.kind);
    awaited.info = info;
    awaited.action = isAlways ? "read" : rule.decide();
    awaited.startNs = this.now();
    awaited.readNs = 0;
    foretold.clear();
    if (awaited.action === "nothing" || !this.memory.recall(info, foretold)) return NO_ROWS;
    limits.bytes = limitBytes;
    limits.readNs = isAlways ? Infinity : rule.limitNs;
    excerpt.take(foretold, info.rowBytes, limits);
    awaited.readNs = excerpt.readNs;
    return awaited.action === "read" ? foretold : NO_ROWS;
  }

  /**
   * What of `plan` is there and what is to be read, and a lesson for the next time. Valid until the next call.
   *
   * @param ahead what `predict` gave for this matrix, if it was read; an empty plan if not, or if reading failed
   * @param idleNs time in which no read of the matrix before was under way, up to now: what there was to read ahead
   *   in; absent where it is not known
   */
  difference(
    info: BundleInfo,
    plan: ChunkPlan,
    ahead: ChunkPlan,
    phase: Phase,
    idleNs?: number,
  ): PlanDifference {
    const { awaited, running, foretold, split } = this;
    const { rowBytes } = info;
    const rule = this.rule(phase, info.kind);
    if (idleNs !== undefined) rule.observeIdle(idleNs);
    if (awaited.info?.name !== info.name) this.drop();
    const isAwaited = awaited.info !== undefined;
    const there = isAwaited ? ahead : NO_ROWS;
    const isForetold = isAwaited && awaited.readNs > 0;
    if (isForetold) this.learn(rule, plan, rowBytes);
    // Else it is split already.
    if (!isForetold || there !== foretold) split.split(plan, there, rowBytes);
    this.totals.bytesAhead += selectedRows(there) * rowBytes;
    this.totals.bytesUsed += selectedRows(split.present) * rowBytes;
    Object.assign(running, awaited);
    // What was decided and not done shows in no span.
    running.action = there.chunkCount > 0 ? "read" : "watch";
    awaited.info = undefined;
    this.memory.remember(info, plan);
    if (this.last !== undefined) this.followers.set(this.last.name, info);
    this.last = info;
    return split;
  }

  /** The product of the matrix has ended. */
  done(info: BundleInfo, phase: Phase): void {
    const { running } = this;
    if (running.info?.name !== info.name) return;
    const spanNs = this.now() - running.startNs;
    this.rule(phase, info.kind).observeSpan(running.action === "read", spanNs);
    running.info = undefined;
  }

  /** The pass has ended early: what was foretold last is not asked for any more, and nothing follows. */
  abandon(): void {
    this.drop();
    this.running.info = undefined;
    this.last = undefined;
  }

  /** What is awaited was read in vain. */
  private drop(): void {
    const { awaited, foretold } = this;
    if (awaited.info !== undefined && awaited.action === "read") {
      this.totals.bytesAhead += selectedRows(foretold) * awaited.info.rowBytes;
    }
    awaited.info = undefined;
  }

  /** Compares the plan with what was foretold of it. */
  private learn(rule: PrefetchRule, plan: ChunkPlan, rowBytes: number): void {
    const { table, split, foretold, awaited } = this;
    split.split(plan, foretold, rowBytes);
    const planNs = estimatePlanNs(plan, rowBytes, table);
    const missingNs = estimatePlanNs(split.missing, rowBytes, table);
    rule.observeForetold(planNs - missingNs, awaited.readNs);
  }

  private rule(phase: Phase, kind: string): PrefetchRule {
    let byKind = this.rules.get(phase);
    if (byKind === undefined) this.rules.set(phase, (byKind = new Map<string, PrefetchRule>()));
    let rule = byKind.get(kind);
    if (rule === undefined) byKind.set(kind, (rule = new PrefetchRule()));
    return rule;
  }
}

function mostRows(matrices: readonly { readonly rows: number }[]): number {
  return matrices.reduce((most, { rows }) => Math.max(most, rows), 0);
}
