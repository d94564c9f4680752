import * as read from "./json-fields.js";
import { readCurve, type LatencyCurve } from "./latency-curve.js";

/** Most lanes a batch model may have: past this, lanes only say "more than a batch ever fills". */
export const MAX_LANES = 256;

/**
 * What a batch of reads costs besides the sum of `T[s]`; see `BatchModel`, which turns it into times. Fitted
 * by `fitBatchModel`.
 */
export interface BatchModelParameters {
  /** Requests that the device serves at once, 1 to {@link MAX_LANES}. */
  readonly lanes: number;
  /** Cost of any batch, ns, at least 0. */
  readonly fixedNs: number;
  /** Weight of the saturated sum, the sum over requests of `T[size]`; at least 0. */
  readonly sumWeight: number;
  /** Weight of the busiest lane's time; at least 0. */
  readonly laneWeight: number;
  /** What `T[size]` misses for each request, ns, at least 0. */
  readonly perRequestNs: number;
  /** How much later the last of `n` requests ends: this times `ln(n)`, ns, at least 0; 0 when absent. */
  readonly stragglerNs?: number;
  /** `U[s]`: time of one read while nothing else is in flight. */
  readonly unloaded: LatencyCurve;
  /** Gaps of up to this many bytes are read through: chunks are merged before anything is summed. */
  readonly readThroughBytes: number;
  /** Longer requests are split into equal parts before anything is summed, bytes, at least 1. */
  readonly maxRequestBytes: number;
}

/** The parameters in a field of a foreign document, checked and copied. */
export function readBatchParameters(value: unknown, path: string): BatchModelParameters {
  const json = read.object(value, path);
  const term = (key: keyof BatchModelParameters): number =>
    read.nonNegative(json, key, `${path}.${key}`);
  return {
    lanes: read.integer(json, "lanes", `${path}.lanes`, 1, MAX_LANES),
    fixedNs: term("fixedNs"),
    sumWeight: term("sumWeight"),
    laneWeight: term("laneWeight"),
    perRequestNs: term("perRequestNs"),
    ...(read.has(json, "stragglerNs") && { stragglerNs: term("stragglerNs") }),
    unloaded: readCurve(read.required(json, "unloaded", `${path}.unloaded`), `${path}.unloaded`),
    readThroughBytes: read.integer(json, "readThroughBytes", `${path}.readThroughBytes`, 0),
    maxRequestBytes: read.integer(json, "maxRequestBytes", `${path}.maxRequestBytes`, 1),
  };
}
