import {
  simulatedDevice,
  type LatencyTable,
  type SimulatedDeviceName,
} from "@neuron-chunking/latency-model";
import { ChunkSelectorError, requireInteger } from "./errors.js";

const KIB = 1024;

/** The paper stores weights in 16 bits. */
const PAPER_BYTES_PER_WEIGHT = 2;

/** Which windows Algorithm 1 tries, in KiB as in the paper; {@link windowRows} turns them into rows. */
export interface ChunkHyperparameters {
  /** Smallest window, `s_min`. */
  readonly minKiB: number;
  /** Difference between window sizes, `ds`; the paper uses `s_min`. */
  readonly stepKiB: number;
  /** Largest window, `s_max`; the paper uses the device's saturation size. */
  readonly maxKiB: number;
  /** Largest distance between the starts of neighbouring windows of one size. */
  readonly jumpKiB: number;
}

/** One row of the paper's Table 2. Values are `[s_min KiB, jump cap KiB]`. */
export interface PaperHyperparameters {
  /** Input channels of the matrix. */
  readonly rows: number;
  /** Output channels: a row is `2 * cols` bytes wide. */
  readonly cols: number;
  readonly orinAgx: readonly [minKiB: number, jumpKiB: number];
  readonly orinNano: readonly [minKiB: number, jumpKiB: number];
}

/** The paper's Table 2: what was tuned, by matrix shape, for selections of under 2 ms. */
export const PAPER_HYPERPARAMETERS: readonly PaperHyperparameters[] = Object.freeze([
  { rows: 3584, cols: 3584, orinAgx: [20, 20], orinNano: [24, 36] },
  { rows: 18944, cols: 3584, orinAgx: [32, 32], orinNano: [36, 36] },
  { rows: 8960, cols: 1536, orinAgx: [16, 16], orinNano: [20, 20] },
  { rows: 1536, cols: 1536, orinAgx: [16, 12], orinNano: [16, 12] },
  { rows: 896, cols: 4864, orinAgx: [8, 8], orinNano: [8, 8] },
  { rows: 1536, cols: 256, orinAgx: [8, 8], orinNano: [8, 8] },
  { rows: 4096, cols: 1024, orinAgx: [12, 12], orinNano: [16, 16] },
  { rows: 896, cols: 128, orinAgx: [8, 8], orinNano: [8, 8] },
  { rows: 3584, cols: 18944, orinAgx: [8, 8], orinNano: [8, 8] },
  { rows: 14336, cols: 4096, orinAgx: [32, 32], orinNano: [40, 36] },
  { rows: 4096, cols: 4096, orinAgx: [20, 20], orinNano: [24, 24] },
  { rows: 4864, cols: 896, orinAgx: [12, 16], orinNano: [20, 16] },
  { rows: 4096, cols: 14336, orinAgx: [8, 8], orinNano: [8, 8] },
  { rows: 3584, cols: 512, orinAgx: [8, 12], orinNano: [8, 12] },
  { rows: 1536, cols: 8960, orinAgx: [8, 8], orinNano: [8, 8] },
  { rows: 896, cols: 896, orinAgx: [8, 8], orinNano: [8, 8] },
] as const);

/** The shape and device that {@link defaultHyperparameters} serves. */
export interface HyperparameterQuery {
  /** Rows of the projection or bundle, at least 1. */
  readonly rows: number;
  /** Columns of all projections in the bundle together. Only used when `rowBytes` is absent. */
  readonly cols?: number;
  /** Bytes of one row; `2 * cols`, 16-bit weights as in the paper, when absent. */
  readonly rowBytes?: number;
  /** A simulated device, `orin-agx` unless a table says otherwise. Ignored when `table` is given. */
  readonly device?: SimulatedDeviceName;
  /** Read latencies of the actual device. */
  readonly table?: LatencyTable;
}

/**
 * The paper's hyperparameters (Table 2) for a shape and a device, and a rule for those it does not list.
 *
 * - Shape: the listed one that is nearest by `|log2(rows / rows')| + |log2(rowBytes / rowBytes')|`, the first
 *   listed on a tie; a listed shape is at distance 0. Only bytes count, so a bundle or 32-bit weights are
 *   simply wider rows.
 * - Column: `orin-agx` and `orin-nano` have their own; any other device takes that of the one whose saturation
 *   size is nearer by ratio.
 * - `maxKiB` is the device's own saturation size, which also bounds the other values; `stepKiB = minKiB`.
 *
 * @throws ChunkSelectorError `INVALID_REQUEST`; LatencyModelError `UNKNOWN_DEVICE`.
 */
export function defaultHyperparameters(query: HyperparameterQuery): ChunkHyperparameters {
  requireInteger(query.rows, "rows", 1);
  if (query.rowBytes === undefined) {
    requireInteger(query.cols, "cols", 1, "Give rowBytes, or cols for 16-bit weights.");
  }
  const rowBytes = query.rowBytes ?? (query.cols as number) * PAPER_BYTES_PER_WEIGHT;
  requireInteger(rowBytes, "rowBytes", 1);
  const device = query.table ?? simulatedDevice(query.device ?? "orin-agx");
  const entry = nearestEntry(query.rows, rowBytes);
  const [tunedMinKiB, tunedJumpKiB] = isNanoLike(device) ? entry.orinNano : entry.orinAgx;
  const maxKiB = device.saturationBytes / KIB;
  const minKiB = Math.min(tunedMinKiB, maxKiB);
  return { minKiB, stepKiB: minKiB, maxKiB, jumpKiB: Math.min(tunedJumpKiB, maxKiB) };
}

function nearestEntry(rows: number, rowBytes: number): PaperHyperparameters {
  let nearest = PAPER_HYPERPARAMETERS[0];
  let least = Infinity;
  for (const entry of PAPER_HYPERPARAMETERS) {
    const distance =
      Math.abs(Math.log2(rows / entry.rows)) +
      Math.abs(Math.log2(rowBytes / (entry.cols * PAPER_BYTES_PER_WEIGHT)));
    if (distance < least) {
      least = distance;
      nearest = entry;
    }
  }
  return nearest;
}

/** Saturation sizes of the paper's two devices (App. D, H). */
const AGX_SATURATION_KIB = 236;
const NANO_SATURATION_KIB = 348;

function isNanoLike(device: { name: string; saturationBytes: number }): boolean {
  if (device.name === "orin-agx") return false;
  if (device.name === "orin-nano") return true;
  const saturationKib = device.saturationBytes / KIB;
  return saturationKib * saturationKib > AGX_SATURATION_KIB * NANO_SATURATION_KIB;
}

/** Hyperparameters in rows: Algorithm 1, step 1. */
export interface WindowRows {
  /** Smallest window, `r_min`. */
  readonly minRows: number;
  /** Difference between sizes, `dr`. */
  readonly stepRows: number;
  /** Largest window, `r_max`. */
  readonly maxRows: number;
  /** Cap of the distance between starts. */
  readonly jumpRows: number;
}

/**
 * Hyperparameters in rows, `max(1, floor(KiB / row KiB))` each (Algorithm 1, step 1). A row wider than a size
 * makes it one row.
 *
 * @param rowBytes Bytes of one row, at least 1.
 * @throws ChunkSelectorError `INVALID_HYPERPARAMETERS`.
 */
export function windowRows(hyperparameters: ChunkHyperparameters, rowBytes: number): WindowRows {
  requireInteger(rowBytes, "rowBytes", 1);
  checkHyperparameters(hyperparameters);
  return {
    minRows: rowsOf(hyperparameters.minKiB, rowBytes),
    stepRows: rowsOf(hyperparameters.stepKiB, rowBytes),
    maxRows: rowsOf(hyperparameters.maxKiB, rowBytes),
    jumpRows: rowsOf(hyperparameters.jumpKiB, rowBytes),
  };
}

function rowsOf(sizeKiB: number, rowBytes: number): number {
  return Math.max(1, Math.floor((sizeKiB * KIB) / rowBytes));
}

function checkHyperparameters(hyperparameters: ChunkHyperparameters): void {
  const { minKiB, stepKiB, maxKiB, jumpKiB } = hyperparameters;
  requirePositive(minKiB, "hyperparameters.minKiB");
  requirePositive(stepKiB, "hyperparameters.stepKiB");
  requirePositive(maxKiB, "hyperparameters.maxKiB");
  requirePositive(jumpKiB, "hyperparameters.jumpKiB");
  if (maxKiB >= minKiB) return;
  throw new ChunkSelectorError("INVALID_HYPERPARAMETERS", {
    path: "hyperparameters.maxKiB",
    expected: `at least minKiB (${minKiB})`,
    got: String(maxKiB),
  });
}

function requirePositive(value: number, path: string): void {
  if (typeof value === "number" && value > 0 && Number.isFinite(value)) return;
  throw new ChunkSelectorError("INVALID_HYPERPARAMETERS", {
    path,
    expected: "a positive finite number of KiB",
    got: String(value),
  });
}
