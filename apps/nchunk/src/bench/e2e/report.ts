import type { Arithmetic } from "@neuron-chunking/vlm-executor";
import { median } from "../../statistics";
import type { E2ePhase, E2ePolicy, PhaseResult } from "./child-protocol";

/** One phase of one model under one policy. Times and bytes are sums over the phase's passes. */
export interface E2eCase extends Omit<PhaseResult, "overlaps" | "phase"> {
  readonly model: string;
  readonly phase: E2ePhase;
  readonly policy: E2ePolicy;
  readonly tokensPerSecond: number;
  /** Share of rows left out that was asked for; `chunk`'s is where it keeps as much importance as `topk`. */
  readonly sparsity: number;
  /** Median over passes of wall time over the larger of reading and computing; 1 is perfect overlap. */
  readonly overlap: number;
  readonly budgetBytes: number;
}

/** Decoding under one memory limit, side by side, tokens per second. */
export interface PeerCase {
  readonly model: string;
  /** The limit as a share of the model's size. */
  readonly memoryFraction: number;
  readonly limitBytes: number;
  readonly policy: E2ePolicy;
  /** Null where it did not run; `reason` says why. */
  readonly ours: number | null;
  readonly theirs: number | null;
  /** ours / theirs: above 1 when ours is faster. */
  readonly ratio: number | null;
  /** The same with every row read, which is exact as llama.cpp is; null where it was not measured. */
  readonly oursDense: number | null;
  readonly ratioDense: number | null;
  /** Most memory charged to the control group, page cache included. */
  readonly oursPeakBytes: number | null;
  readonly theirsPeakBytes: number | null;
  /** What the kernel read ahead for llama.cpp, which pages as fast as that lets it; null when not known or not run. */
  readonly readAheadBytes: number | null;
  readonly rounds: number;
  readonly reason?: string;
}

export interface E2eSummary {
  /** Over all passes of all cases. */
  readonly overlapMedian: number | null;
  readonly peer25: number | null;
  readonly peer50: number | null;
  readonly peer75: number | null;
  readonly rssToBudgetMax: number | null;
}

export interface E2eReport {
  readonly bench: "e2e";
  readonly effort: string;
  readonly seed: number;
  readonly cases: readonly E2eCase[];
  readonly peer: readonly PeerCase[];
  /** Why there is no comparison; absent when there is one. */
  readonly peerSkipped?: string;
  readonly summary: E2eSummary;
  readonly profile: { readonly name: string };
  /** What is measured is smaller than the real model, if it is. */
  readonly note: string;
  readonly conditions: Conditions;
}

/** What else the figures depend on. */
export interface Conditions {
  readonly threads: number;
  readonly arithmetic: Arithmetic;
  /** Load of the last minute over the number of cores, before and after. */
  readonly loadPerCore: readonly [before: number, after: number];
  /** What the system has the kernel read ahead of a memory-mapped file on this disk; null when not known. */
  readonly readAheadBytes: number | null;
  readonly peerVersion: string | null;
}

/** @param overlaps Of every pass. */
export function summarize(
  cases: readonly E2eCase[],
  overlaps: readonly number[],
  peer: readonly PeerCase[],
): E2eSummary {
  const at = (fraction: number): number | null =>
    peer.find(({ memoryFraction }) => memoryFraction === fraction)?.ratio ?? null;
  const rss = cases.map(({ peakRssBytes, budgetBytes }) => peakRssBytes / budgetBytes);
  return {
    overlapMedian: overlaps.length > 0 ? median(overlaps) : null,
    peer25: at(0.25),
    peer50: at(0.5),
    peer75: at(0.75),
    rssToBudgetMax: rss.length > 0 ? Math.max(...rss) : null,
  };
}
