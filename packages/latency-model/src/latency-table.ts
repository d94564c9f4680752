import { parseDeviceProfile, type DeviceProfile } from "./device-profile.js";
import { requireFinite, requireInteger } from "./errors.js";
import { interpolate } from "./latency-curve.js";

/**
 * Row widths whose lookups are kept. A model has one width per bundle kind (at most seven when unbundled);
 * the bound only keeps a caller who sweeps widths from growing memory without end.
 */
const MAX_CACHED_ROW_WIDTHS = 64;

/**
 * `T[s]`: the expected time of one read of `s` bytes while the device is saturated with such reads
 * (paper section 3.1, App. D).
 *
 * - `s = 0`: 0, nothing is read.
 * - below the first sample: the first sample. Devices transfer whole blocks, so a smaller read is no cheaper.
 * - between samples, up to the saturation size: linear interpolation.
 * - past the saturation size: proportional, `s * tailNsPerByte`, and never below `T[saturation]`.
 *
 * Hence `T` is non-decreasing everywhere. Samples past the saturation size are not used. Immutable, apart
 * from the cache of row lookups.
 */
export class LatencyTable {
  /** Name of the profiled device. */
  readonly name: string;
  /** Smallest read size at 99 % of peak throughput, bytes. */
  readonly saturationBytes: number;
  /** Slope past saturation, ns per byte. */
  readonly tailNsPerByte: number;
  readonly #sizesBytes: Float64Array;
  readonly #latencyNs: Float64Array;
  readonly #saturationNs: number;
  readonly #rowLatencies = new Map<number, Float64Array>();

  /**
   * @param profile A device profile; it is validated and copied.
   * @throws LatencyModelError `INVALID_PROFILE`.
   */
  constructor(profile: DeviceProfile) {
    const { name, table, saturationBytes, tailNsPerByte } = parseDeviceProfile(profile);
    this.name = name;
    this.saturationBytes = saturationBytes;
    this.tailNsPerByte = tailNsPerByte;
    this.#sizesBytes = Float64Array.from(table.sizesBytes);
    this.#latencyNs = Float64Array.from(table.latencyNs);
    this.#saturationNs = this.#interpolate(saturationBytes);
  }

  /**
   * Expected time of one read, ns.
   *
   * @param sizeBytes Bytes read, finite and at least 0.
   * @throws LatencyModelError `INVALID_ARGUMENT`.
   */
  latencyNs(sizeBytes: number): number {
    requireFinite(sizeBytes, "sizeBytes", 0);
    return this.#lookup(sizeBytes);
  }

  /**
   * `T` by run length: entry `r` is the expected time of one read of `r` rows, ns; entry 0 is 0.
   *
   * Cached by row width: the array belongs to the table, must not be written, and may be longer than asked
   * for. A later call for more rows returns another array and leaves this one as it is.
   *
   * @param rowBytes Bytes of one row, an integer of at least 1.
   * @param maxRows The longest run needed, an integer of at least 0.
   * @returns `[>= maxRows + 1]`.
   * @throws LatencyModelError `INVALID_ARGUMENT`.
   */
  rowLatencyNs(rowBytes: number, maxRows: number): Float64Array {
    const cached = this.#rowLatencies.get(rowBytes);
    if (cached !== undefined && cached.length > maxRows) return cached;
    requireInteger(rowBytes, "rowBytes", 1);
    requireInteger(maxRows, "maxRows", 0);
    const latencies = new Float64Array(maxRows + 1);
    for (let rows = 0; rows <= maxRows; rows++) latencies[rows] = this.#lookup(rows * rowBytes);
    this.#remember(rowBytes, latencies);
    return latencies;
  }

  #remember(rowBytes: number, latencies: Float64Array): void {
    if (!this.#rowLatencies.has(rowBytes) && this.#rowLatencies.size >= MAX_CACHED_ROW_WIDTHS) {
      for (const oldest of this.#rowLatencies.keys()) {
        this.#rowLatencies.delete(oldest);
        break;
      }
    }
    this.#rowLatencies.set(rowBytes, latencies);
  }

  #lookup(sizeBytes: number): number {
    if (sizeBytes === 0) return 0;
    if (sizeBytes <= this.saturationBytes) return this.#interpolate(sizeBytes);
    return Math.max(this.#saturationNs, sizeBytes * this.tailNsPerByte);
  }

  #interpolate(sizeBytes: number): number {
    return interpolate(this.#sizesBytes, this.#latencyNs, sizeBytes);
  }
}
