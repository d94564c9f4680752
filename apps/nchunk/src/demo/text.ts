import { formatBytes, formatNs, formatPercent, formatTable } from "../terminal/format";
import type { ScaleReport } from "./at-scale";
import { DEMO_POLICIES, DEMO_SPARSITY, type PolicyRun } from "./policy-run";

export const INTRODUCTION = `
A small vision-language model (its model card: apps/nchunk/assets/demo-model/README.md) answers six questions, four
times. Its vision tower and embeddings are in memory; every weight matrix of its decoder stays on disk and is read
in every step (the prompt is one, then each token is), past the page cache.

  dense     reads every row: exact.
  topk      reads the rows of the largest activations, wherever they lie: lossy.
  chunk     reads contiguous chunks, chosen by importance per unit of read time (the paper's Algorithm 1): lossy.
  lagrange  reads the chunks that take least time for as much importance as topk keeps: lossy.
`;

const ABOUT_SMALL_TABLE = `
\`topk\` and \`chunk\` leave out ${DEMO_SPARSITY * 100} % of the rows of every matrix. Chunks are kept to 8 KiB here: by its own choice \`chunk\` reads
in pieces that are larger than a whole matrix of this model. \`lagrange\` keeps at least the importance that \`topk\` would keep, and where
a whole matrix is read as fast, it reads it.
What this shows: that answers are computed from weights read from disk, what leaving rows out does to them, and how the
reads change shape.
What it does not show: the gain in time. This model's matrices are too small for it; the next table is about that.
`;

const aboutScaleTable = (report: ScaleReport): string => `
${report.rows} rows of ${report.rowBytes} bytes are one down projection of a 7B model, here filled with random bytes. \`chunk\` keeps half
of the rows; \`topk\` and \`lagrange\` are given the same importance to reach. Importances are log-normal
with the spread that the paper reports, in random order, which is the hardest case for chunks.
What this shows: the time of the reads on this disk, ${report.directIo ? "past the page cache" : "THROUGH THE PAGE CACHE (this file system has no direct I/O), so it is not the disk's speed"}; median of ${report.rounds} alternating rounds.
What it does not show: accuracy of a real 7B model, or compute time.
`;

export function describeRuns(runs: PolicyRun[]): string {
  const rows = runs.map((run) => [
    `${run.policy} (${run.exact ? "exact" : "lossy"})`,
    `${run.correct} of ${run.questions}`,
    formatBytes(run.bytesRead),
    String(run.chunks),
    run.meanChunkRows.toFixed(1),
    formatNs(run.ioNs),
    run.tokensPerSecond.toFixed(1),
  ]);
  const head = ["policy", "right", "bytes read", "chunks", "rows/chunk", "I/O time", "tokens/s"];
  return `${formatTable(head, rows)}\n${ABOUT_SMALL_TABLE}`;
}

export function describeScale(report: ScaleReport): string {
  const baselineNs = report.policies.topk.ns;
  const rows = DEMO_POLICIES.map((policy) => {
    const { ns, bytesRead, rowsRead, chunks, importance } = report.policies[policy];
    return [
      policy,
      formatPercent(importance),
      String(rowsRead),
      String(chunks),
      formatBytes(bytesRead),
      formatNs(ns),
      `${(baselineNs / ns).toFixed(2)}x`,
    ];
  });
  const head = ["policy", "importance", "rows", "chunks", "bytes read", "read time", "vs topk"];
  return `${formatTable(head, rows)}\n${aboutScaleTable(report)}`;
}
