import { formatPercent, formatTable } from "../../terminal/format";
import type { KernelReport } from "./bench-kernels";

const LIMIT_TITLES: Record<string, string> = {
  stream: "streaming reads",
  peer: "the peer",
  multiplyAdd: "multiply-adds",
};

/** The report for people. */
export function describeKernels(report: KernelReport): string {
  const { limits, summary, cases, notes } = report;
  const { peer } = limits;
  const rows = summary.map(({ op, dtype, target, t, limit, medianFraction, leastFraction }) => [
    op,
    dtype,
    target,
    String(t),
    LIMIT_TITLES[limit] ?? limit,
    formatPercent(medianFraction),
    formatPercent(leastFraction),
  ]);
  const [{ threads }] = cases;
  return [
    `${threads} threads. Limits in this run: streaming reads ${limits.streamGbps.toFixed(1)} GB/s, ` +
      `f32 multiply-adds ${limits.multiplyAddGflops.toFixed(0)} GFLOP/s.`,
    peer.name === null
      ? `No peer, so products are held against multiply-adds: ${peer.reason}.`
      : `Peer: ${peer.name}, f32 weights and nothing to widen, up to ${(peer.bestGflops ?? 0).toFixed(0)} GFLOP/s.`,
    formatTable(
      ["kernel", "weights", "target", "tokens", "limit", "median of shapes", "least"],
      rows,
    ),
    `Load average at the start: ${report.loadAverage.toFixed(1)}. Other work on this machine lowers single figures; ratios are of the same rounds.`,
    ...notes.map((note) => `Note: ${note}.`),
  ].join("\n");
}
