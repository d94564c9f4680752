import os from "node:os";
import { kernelBench as kernels, type KernelBench } from "@neuron-chunking/vlm-executor";
import { median } from "../../statistics";
import { withProgress } from "../../terminal/progress";
import { isRounded, kernelCases, type NamedCase } from "./cases";
import type { KernelEffort } from "./effort";
import { measureCase, type MeasuredCase } from "./measure";

export interface KernelReport {
  readonly bench: "kernels";
  readonly effort: string;
  readonly cases: readonly MeasuredCase[];
  /** Medians over the cases, all threads; each case has those of its own rounds. */
  readonly limits: {
    readonly streamGbps: number;
    readonly multiplyAddGflops: number;
    readonly peer: {
      readonly name: string | null;
      /** Why there is none, and what to do. */
      readonly reason: string | null;
      /** The most it reached on any case. */
      readonly bestGflops: number | null;
    };
  };
  /** Medians of `fractionOfLimit` on all threads: in f32, and where the target in use rounds, rounded. */
  readonly summary: readonly {
    readonly op: string;
    readonly dtype: string;
    readonly target: string;
    readonly t: number;
    readonly limit: string;
    readonly medianFraction: number;
    readonly leastFraction: number;
  }[];
  /** Other work that the machine had when the bench began, in CPUs; figures mean little when it is not near zero. */
  readonly loadAverage: number;
  readonly notes: readonly string[];
  readonly elapsedMs: number;
}

interface Where {
  readonly target: string;
  readonly threads: number;
}

/** A target with a suffix computes in f32 as the one without, and is timed where it rounds. */
const baseOf = (target: string): string => target.split("-")[0];

/** The targets whose figures are summarised. */
const targetsInUse = ({ target }: Where): string[] => [...new Set([baseOf(target), target])];

function places(effort: KernelEffort, now: Where): Where[] {
  const targets = effort.isEveryTarget ? kernels.availableTargets() : targetsInUse(now);
  const threads = effort.isAlsoOneThread && now.threads > 1 ? [now.threads, 1] : [now.threads];
  return targets.flatMap((target) => threads.map((count) => ({ target, threads: count })));
}

function summarise(cases: readonly MeasuredCase[], at: Where): KernelReport["summary"] {
  const targets = targetsInUse(at);
  const here = cases.filter(
    ({ target, threads }) => targets.includes(target) && threads === at.threads,
  );
  const groups = new Map<string, MeasuredCase[]>();
  for (const one of here) {
    const key = `${one.target} ${one.op} ${one.dtype} ${one.t} ${one.limit}`;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()].map((group) => {
    const [{ op, dtype, target, t, limit }] = group;
    const fractions = group.map(({ fractionOfLimit }) => fractionOfLimit);
    const medianFraction = median(fractions);
    return { op, dtype, target, t, limit, medianFraction, leastFraction: Math.min(...fractions) };
  });
}

/** What a product needs of the arena, bytes; as the peer needs it too where it fits. */
const weightBytes = ({ spec, dtype }: NamedCase): number => {
  const bytesPerWeight = { f32: 4, bf16: 2, f16: 2, int8: 1.0625, int4: 0.5625 }[dtype];
  return spec.op === "chunked" || spec.op === "linear" ? spec.k * spec.n * bytesPerWeight : 0;
};

function chooseCases(effort: KernelEffort): { cases: NamedCase[]; notes: string[] } {
  const all = kernelCases(effort);
  const cases = all.filter(
    (one) =>
      2 * one.spec.t * one.spec.k * one.spec.n <= effort.maxFlops &&
      weightBytes(one) * 1.02 <= effort.arenaBytes,
  );
  const left = all.length - cases.length;
  const notes =
    left > 0
      ? [`${left} of ${all.length} cases are too large for this run; --thorough does more`]
      : [];
  return { cases, notes };
}

/** The cases of a place: all of them in f32, or those that its target rounds. */
function casesAt({ target }: Where, cases: readonly NamedCase[]): readonly NamedCase[] {
  if (target === baseOf(target)) return cases;
  kernels.forceTarget(target);
  const { reduced } = kernels.features();
  return cases
    .filter((one) => isRounded(one, reduced))
    .map((one) => ({ ...one, spec: { ...one.spec, reduced: true } }));
}

async function measureAll(
  bench: KernelBench,
  effort: KernelEffort,
  now: Where,
  signal: AbortSignal,
  startedMs: number,
): Promise<{ measured: MeasuredCase[]; notes: string[] }> {
  const { cases, notes } = chooseCases(effort);
  const work = places(effort, now).flatMap((where) =>
    casesAt(where, cases).map((one) => ({ where, one })),
  );
  const measured: MeasuredCase[] = [];
  await withProgress("Measuring kernels", async (report) => {
    for (const [done, { where, one }] of work.entries()) {
      signal.throwIfAborted();
      report(done / work.length, `${one.op} ${one.dtype} T ${one.spec.t}`);
      kernels.forceTarget(where.target);
      if (kernels.features().threads !== where.threads) kernels.setThreads(where.threads);
      const leftMs = startedMs + effort.budgetMs - performance.now();
      const shareMs = Math.max(0, leftMs / (work.length - done));
      measured.push(await measureCase(bench, one, effort, where, shareMs));
      // Lets Ctrl-C and the progress line in.
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
  return { measured, notes };
}

/** Times every kernel beside the machine's limits, in the same rounds. */
export async function benchKernels(options: {
  effort: KernelEffort;
  signal: AbortSignal;
}): Promise<KernelReport> {
  const { effort, signal } = options;
  const startedMs = performance.now();
  const [loadAverage] = os.loadavg();
  const now = kernels.features();
  const bench = kernels.openBench(effort.arenaBytes);
  try {
    const { measured, notes } = await measureAll(bench, effort, now, signal, startedMs);
    const withAll = measured.filter(({ threads }) => threads === now.threads);
    const peers = withAll.flatMap(({ peerGflops }) => (peerGflops === null ? [] : [peerGflops]));
    return {
      bench: "kernels",
      effort: effort.name,
      cases: measured,
      limits: {
        streamGbps: median(withAll.map(({ streamGbps }) => streamGbps)),
        multiplyAddGflops: median(withAll.map(({ multiplyAddGflops }) => multiplyAddGflops)),
        peer: {
          name: bench.peerName,
          reason: bench.peerReason,
          bestGflops: peers.length > 0 ? Math.max(...peers) : null,
        },
      },
      summary: summarise(measured, now),
      loadAverage,
      notes,
      elapsedMs: performance.now() - startedMs,
    };
  } finally {
    kernels.forceTarget(now.target);
    if (kernels.features().threads !== now.threads) kernels.setThreads(now.threads);
  }
}
