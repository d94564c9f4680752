import * as read from "./json-fields.js";
import {
  MAX_TABLE_SAMPLES,
  readCurve,
  readLatencies,
  readSamples,
  type LatencyCurve,
  type ProfileSample,
} from "./latency-curve.js";
import { MAX_QUEUE_DEPTH } from "./reader-tuning.js";

/** Most entries in a list of evidence: hundreds are usual, and a hostile file must not cost memory. */
const MAX_EVIDENCE = 65_536;

/** What reads cost through one backend; every backend measured is kept, the chosen one included. */
export interface ProfileBackend {
  /** Name of the backend, such as `pool` or `io_uring`. */
  readonly name: string;
  /** `T[s]` through this backend. */
  readonly table: LatencyCurve;
  /** Raw measurements behind `table`. */
  readonly samples?: readonly ProfileSample[];
}

/** What depth is worth: reads of one size at several numbers of requests in flight. */
export interface ProfileQueueSweep {
  readonly backend: string;
  /** Read size, bytes. */
  readonly sizeBytes: number;
  /** Requests in flight, strictly ascending, 1 to `MAX_QUEUE_DEPTH`. */
  readonly depths: readonly number[];
  /** Time per read, ns, one per depth. */
  readonly latencyNs: readonly number[];
}

/** How close estimates came to measurements; see `fitQuality` for both formulae. */
export interface FitQuality {
  /** Coefficient of determination: 1 is perfect, 0 no better than the mean, negative worse than that. */
  readonly r2: number;
  /** Mean absolute error as a share of the measured value: 0.08 is 8 %. */
  readonly mape: number;
}

/** One mask that was read and estimated; it took no part in any fit. */
export interface ProfileMask {
  /** Bytes of one row. */
  readonly rowBytes: number;
  /** `random` rows, or rows `selected` as Algorithm 1 selects them. */
  readonly kind: "random" | "selected";
  /** Chunks in the mask. */
  readonly chunks: number;
  /** Bytes wanted. */
  readonly bytes: number;
  /** Time the reads took, ns. */
  readonly measuredNs: number;
  /** The plain sum of `T[s]`, ns. */
  readonly sumNs: number;
  /** The batch model's estimate, ns. */
  readonly batchNs: number;
}

/** How well the profile predicts masks that were held out of its fits. */
export interface ProfileValidation {
  readonly masks: readonly ProfileMask[];
  /** The plain sum against the measurements, after the proportional calibration that the paper allows. */
  readonly sum: FitQuality;
  /** The batch model against the measurements, as it is. */
  readonly batch: FitQuality;
}

/** How far one round of the measurement was from the others. */
export interface ProfileRound {
  /** Median over sizes of `|sample / median of the rounds - 1|`, at least 0. */
  readonly deviation: number;
  /** It deviates enough to be mentioned. */
  readonly flagged: boolean;
  /** It deviates so much that it was measured again and does not count. */
  readonly rejected: boolean;
}

const MASK_KINDS = ["random", "selected"] as const;

export function readBackends(root: read.JsonObject): ProfileBackend[] {
  return read.array(root, "backends", "backends", 0, MAX_EVIDENCE).map((entry, index) => {
    const path = `backends[${index}]`;
    const backend = read.object(entry, path);
    return {
      name: read.text(backend, "name", `${path}.name`),
      table: readCurve(read.required(backend, "table", `${path}.table`), `${path}.table`),
      ...(read.has(backend, "samples") && { samples: readSamples(backend, `${path}.`) }),
    };
  });
}

export function readQueueSweeps(root: read.JsonObject): ProfileQueueSweep[] {
  return read.array(root, "queue", "queue", 0, MAX_EVIDENCE).map((entry, index) => {
    const path = `queue[${index}]`;
    const sweep = read.object(entry, path);
    const depths = read
      .array(sweep, "depths", `${path}.depths`, 1, MAX_TABLE_SAMPLES)
      .map((depth, at) => read.asInteger(depth, `${path}.depths[${at}]`, 1, MAX_QUEUE_DEPTH));
    const backend = read.text(sweep, "backend", `${path}.backend`);
    const sizeBytes = read.integer(sweep, "sizeBytes", `${path}.sizeBytes`, 1);
    const latencyNs = readLatencies(sweep, path);
    if (latencyNs.length !== depths.length) {
      const expected = `as long as ${path}.depths (${depths.length})`;
      throw read.fieldError(`${path}.latencyNs`, expected, latencyNs);
    }
    for (let at = 1; at < depths.length; at++) {
      read.requireAscending(depths, at, `${path}.depths`);
    }
    return { backend, sizeBytes, depths, latencyNs };
  });
}

export function readValidation(value: unknown): ProfileValidation {
  const validation = read.object(value, "validation");
  return {
    masks: read.array(validation, "masks", "validation.masks", 0, MAX_EVIDENCE).map(readMask),
    sum: readQuality(validation, "sum"),
    batch: readQuality(validation, "batch"),
  };
}

function readMask(entry: unknown, index: number): ProfileMask {
  const path = `validation.masks[${index}]`;
  const mask = read.object(entry, path);
  return {
    rowBytes: read.integer(mask, "rowBytes", `${path}.rowBytes`, 1),
    kind: read.oneOf(mask, "kind", `${path}.kind`, MASK_KINDS),
    chunks: read.integer(mask, "chunks", `${path}.chunks`, 1),
    bytes: read.integer(mask, "bytes", `${path}.bytes`, 1),
    measuredNs: read.positive(mask, "measuredNs", `${path}.measuredNs`),
    sumNs: read.positive(mask, "sumNs", `${path}.sumNs`),
    batchNs: read.positive(mask, "batchNs", `${path}.batchNs`),
  };
}

function readQuality(validation: read.JsonObject, key: "sum" | "batch"): FitQuality {
  const path = `validation.${key}`;
  const quality = read.object(read.required(validation, key, path), path);
  return {
    r2: read.finite(quality, "r2", `${path}.r2`, 1),
    mape: read.nonNegative(quality, "mape", `${path}.mape`),
  };
}

export function readRounds(root: read.JsonObject): ProfileRound[] {
  return read.array(root, "rounds", "rounds", 0, MAX_EVIDENCE).map((entry, index) => {
    const path = `rounds[${index}]`;
    const round = read.object(entry, path);
    return {
      deviation: read.nonNegative(round, "deviation", `${path}.deviation`),
      flagged: read.boolean(round, "flagged", `${path}.flagged`),
      rejected: read.boolean(round, "rejected", `${path}.rejected`),
    };
  });
}
