import { DTYPE_BYTES, type BundleKind, type Manifest } from "@neuron-chunking/weight-store";
import { formatBytes, formatPercent, formatTable } from "../terminal/format";

/** Relative errors |w - stored| / |w| of the rows of one kind of bundle. */
export interface KindError {
  kind: BundleKind;
  rows: number;
  /** Over the rows. */
  meanRelativeError: number;
  /** Of the row that moved furthest. */
  worstRelativeError: number;
  /** Where that row is. */
  worstBundle: string;
}

/** What a conversion did to the weights that are streamed. */
export interface ConversionSummary {
  /** In the checkpoint. */
  streamedBytesBefore: number;
  /** In the image. */
  streamedBytesAfter: number;
  /** Kept in memory, as in the checkpoint. */
  residentBytes: number;
  /** By kind, in the order of the image; empty when the weights were stored bit for bit. */
  quantisation: KindError[];
}

export function summariseConversion({ flash, resident }: Manifest): ConversionSummary {
  const kinds = new Map<BundleKind, KindError>();
  let before = 0;
  let after = 0;
  for (const { name, kind, rows, rowBytes, parts, quantisedFrom } of flash.bundles) {
    after += rows * rowBytes;
    if (quantisedFrom === undefined) {
      before += rows * rowBytes;
      continue;
    }
    const columns = parts.reduce((sum, part) => sum + part.columns, 0);
    before += rows * columns * DTYPE_BYTES[quantisedFrom.dtype];
    const { mean, worst } = quantisedFrom.error;
    const known = kinds.get(kind);
    const isWorst = known === undefined || worst > known.worstRelativeError;
    const earlierRows = known?.rows ?? 0;
    const earlierSum = earlierRows * (known?.meanRelativeError ?? 0);
    kinds.set(kind, {
      kind,
      rows: earlierRows + rows,
      meanRelativeError: (earlierSum + rows * mean) / (earlierRows + rows),
      worstRelativeError: isWorst ? worst : known.worstRelativeError,
      worstBundle: isWorst ? name : known.worstBundle,
    });
  }
  return {
    streamedBytesBefore: before,
    streamedBytesAfter: after,
    residentBytes: resident.tensors.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
    quantisation: [...kinds.values()],
  };
}

/** The same for people. */
export function describeConversion(outputDir: string, manifest: Manifest): string {
  const { flash } = manifest;
  const summary = summariseConversion(manifest);
  const after = formatBytes(summary.streamedBytesAfter);
  const head = `${outputDir}: ${flash.bundles.length} bundles, ${after} to stream from flash.`;
  const { dtype, groupSize } = flash.bundles[0] ?? {};
  if (summary.quantisation.length === 0 || dtype === undefined) return head;
  const share = formatPercent(summary.streamedBytesAfter / summary.streamedBytesBefore);
  return [
    head,
    `Quantised to ${dtype} in groups of ${groupSize}: ${formatBytes(summary.streamedBytesBefore)} before, ${after} now (${share}). ` +
      `This is lossy for good; a run is exact only with respect to these weights.`,
    formatTable(
      ["bundles", "rows", "mean error", "worst error", "in"],
      summary.quantisation.map((kind) => [
        kind.kind,
        String(kind.rows),
        formatPercent(kind.meanRelativeError),
        formatPercent(kind.worstRelativeError),
        kind.worstBundle,
      ]),
    ),
    "Error of a row: |stored - original| / |original|.",
  ].join("\n");
}
