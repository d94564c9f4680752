import type { CalibratedBundle, Calibration } from "@neuron-chunking/chunk-selector";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import type { SelectionSettings } from "./selection/settings.js";

/** Resident rows of one stored matrix. */
export interface BundlePrefix {
  readonly bundle: string;
  /** Its first rows in stored order. */
  readonly rows: number;
  readonly totalRows: number;
  readonly bytes: number;
}

/** Which rows a budget keeps in memory, and what that does to a pass; times by the device's latency table. */
export interface PrefixPlan {
  readonly bytes: number;
  /** Matrices with at least one resident row, layer by layer. */
  readonly bundles: readonly BundlePrefix[];
  /** Expected read time of a pass under the policy, without any resident row and with these, ns. */
  readonly expectedReadNsWithout: number;
  readonly expectedReadNs: number;
  /** What the chance that a row is read was taken from. */
  readonly basis: "dense" | "calibration" | "uniform";
}

/** The sparsity at which a calibration counts active rows (chunk-selector `activeCounts`). */
const COUNTED_SPARSITY = 0.5;
/** Prefixes grow in steps of this, and small matrices in steps of a part: finer ones would save nothing a device can tell. */
const STEP_BYTES = 64 * 1024;
const STEPS_PER_MATRIX = 16;

/** A stretch of a prefix that is taken whole or not at all. */
interface Step {
  readonly bundle: number;
  /** The prefix's rows after it. */
  readonly endRows: number;
  readonly bytes: number;
  readonly savedNsPerByte: number;
}

/**
 * Prefix lengths that save the most expected read time for `spareBytes`: greedy by saved time per byte, over the concave
 * hull of each matrix's savings, so that a step that only pays together with the next counts with it.
 *
 * The expected read time of the rows from `p` on is modelled as `m / c` reads of `c` rows each, where `m` is the expected
 * number of selected rows among them (each row by its chance of being selected, from the calibration's activation counts in
 * stored order, else equal chances) and `c` the length of chunk that the policy tends to: all of them for `dense`, the mean
 * run of rows selected independently by their chances for `topk` and `threshold`, the device's saturation size for `chunk`
 * and `lagrange`.
 */
export class PrefixPlanner {
  private readonly curves: readonly SavingCurve[];
  private readonly basis: PrefixPlan["basis"];

  constructor(
    private readonly bundles: readonly BundleInfo[],
    settings: SelectionSettings,
    calibration: Calibration | undefined,
  ) {
    const counted = new Map(calibration?.bundles.map((bundle) => [bundle.name, bundle]));
    this.curves = bundles.map((info) => new SavingCurve(info, settings, counted.get(info.name)));
    const sparse = settings.policy !== "dense";
    this.basis = sparse ? (calibration === undefined ? "uniform" : "calibration") : "dense";
  }

  fill(spareBytes: number): PrefixPlan {
    const steps = this.curves
      .flatMap((curve, bundle) => curve.steps(bundle))
      .sort((a, b) => b.savedNsPerByte - a.savedNsPerByte || a.bundle - b.bundle);
    const rows = new Uint32Array(this.bundles.length);
    const ended = new Uint8Array(this.bundles.length);
    let freeBytes = spareBytes;
    for (const { bundle, endRows, bytes } of steps) {
      if (ended[bundle] === 1) continue;
      if (bytes <= freeBytes) {
        rows[bundle] = endRows;
        freeBytes -= bytes;
        continue;
      }
      // As much of the step as there is room for; what would follow it cannot be taken without it.
      ended[bundle] = 1;
      const { rowBytes } = this.bundles[bundle];
      const part = Math.floor(freeBytes / rowBytes);
      rows[bundle] += part;
      freeBytes -= part * rowBytes;
    }
    return this.describe(rows);
  }

  /** Expected read time of a pass with these prefixes, ns. */
  expectedReadNs(rows: ArrayLike<number>): number {
    return this.curves.reduce((sum, curve, i) => sum + curve.expectedNs(rows[i]), 0);
  }

  private describe(rows: Uint32Array): PrefixPlan {
    const bundles = this.bundles.flatMap(({ name, rows: totalRows, rowBytes }, i) =>
      rows[i] === 0 ? [] : [{ bundle: name, rows: rows[i], totalRows, bytes: rows[i] * rowBytes }],
    );
    return {
      bytes: bundles.reduce((sum, { bytes }) => sum + bytes, 0),
      bundles,
      expectedReadNsWithout: this.expectedReadNs(new Uint32Array(rows.length)),
      expectedReadNs: this.expectedReadNs(rows),
      basis: this.basis,
    };
  }
}

/** Expected read time of one matrix by the length of its prefix. */
class SavingCurve {
  /** Expected selected rows from row `p` on [rows + 1]. */
  private readonly expectedRows: Float64Array;
  /** Where rows are selected one by one: expected runs of selected rows from row `p` on [rows + 1]. */
  private readonly expectedRuns: Float64Array | undefined;
  private readonly chunkRows: number;
  private readonly rowNs: Float64Array;

  constructor(
    private readonly info: BundleInfo,
    settings: SelectionSettings,
    counted: CalibratedBundle | undefined,
  ) {
    const { rows, rowBytes, name } = info;
    const sparsity =
      settings.policy === "dense" ? 0 : (settings.sparsities?.[name] ?? settings.sparsity);
    const chances = selectionChances(info, sparsity, counted);
    this.expectedRows = sumsFrom(rows, (row) => chances[row]);
    const singly = settings.policy === "topk" || settings.policy === "threshold";
    // A run starts where a row is selected and the one before it is not.
    this.expectedRuns = singly
      ? sumsFrom(rows, (row) => chances[row] * (row === 0 ? 1 : 1 - chances[row - 1]))
      : undefined;
    const saturated = Math.round(settings.table.saturationBytes / rowBytes);
    this.chunkRows = sparsity === 0 ? rows : Math.min(rows, Math.max(1, saturated));
    this.rowNs = settings.table.rowLatencyNs(rowBytes, rows);
  }

  expectedNs(prefixRows: number): number {
    const rows = this.expectedRows[prefixRows];
    // Part of a row, on average, costs part of one read.
    if (rows < 1) return rows * this.rowNs[1];
    if (this.expectedRuns === undefined) {
      const chunk = Math.min(rows, this.chunkRows);
      return (rows / chunk) * this.readNs(chunk);
    }
    const runs = Math.max(1, this.expectedRuns[prefixRows]);
    return runs * this.readNs(rows / runs);
  }

  /** One read of a mean number of rows. */
  private readNs(rows: number): number {
    const whole = Math.min(Math.floor(rows), this.info.rows);
    const next = Math.min(whole + 1, this.info.rows);
    return this.rowNs[whole] + (rows - whole) * (this.rowNs[next] - this.rowNs[whole]);
  }

  /** The prefix's growth by falling saving per byte. */
  steps(bundle: number): Step[] {
    const { rows, rowBytes } = this.info;
    const stride = Math.ceil(Math.min(STEP_BYTES / rowBytes, rows / STEPS_PER_MATRIX));
    const hull: { rows: number; savedNs: number }[] = [{ rows: 0, savedNs: 0 }];
    const withoutNs = this.expectedNs(0);
    for (let at = Math.min(stride, rows); ; at = Math.min(at + stride, rows)) {
      const point = { rows: at, savedNs: withoutNs - this.expectedNs(at) };
      while (
        hull.length > 1 &&
        slope(hull[hull.length - 2], hull[hull.length - 1]) <= slope(hull[hull.length - 1], point)
      ) {
        hull.pop();
      }
      hull.push(point);
      if (at === rows) break;
    }
    return hull.slice(1).map((point, i) => ({
      bundle,
      endRows: point.rows,
      bytes: (point.rows - hull[i].rows) * rowBytes,
      savedNsPerByte: slope(hull[i], point) / rowBytes,
    }));
  }
}

interface HullPoint {
  readonly rows: number;
  readonly savedNs: number;
}

const slope = (from: HullPoint, to: HullPoint): number =>
  (to.savedNs - from.savedNs) / (to.rows - from.rows);

/** Chance of each row, in stored order, to be selected. */
function selectionChances(
  { rows, storedOrder }: BundleInfo,
  sparsity: number,
  counted: CalibratedBundle | undefined,
): Float64Array {
  const density = 1 - sparsity;
  const chances = new Float64Array(rows).fill(density);
  if (counted === undefined || sparsity === 0) return chances;
  for (let row = 0; row < rows; row++) {
    const active = counted.activeCounts[storedOrder?.[row] ?? row] / counted.samples;
    chances[row] = Math.min(1, (active * density) / (1 - COUNTED_SPARSITY));
  }
  return chances;
}

/** Sums of `value` at and after each row [rows + 1]. */
function sumsFrom(rows: number, value: (row: number) => number): Float64Array {
  const sums = new Float64Array(rows + 1);
  for (let row = rows - 1; row >= 0; row--) sums[row] = sums[row + 1] + value(row);
  return sums;
}
