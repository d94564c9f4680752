import { BatchTerms } from "./batch-model.js";
import { MAX_LANES, readBatchParameters, type BatchModelParameters } from "./batch-parameters.js";
import type { ChunkPlan } from "./chunk-plan.js";
import { LatencyModelError, requirePositive } from "./errors.js";
import type { LatencyTable } from "./latency-table.js";
import { nonNegativeLeastSquares } from "./least-squares.js";
import { monotoneLatencyNs } from "./saturation.js";

/** One plan that was read, and how long that took. */
export interface BatchObservation {
  /** Chunks read, at least one. */
  readonly plan: ChunkPlan;
  /** Bytes of one row, an integer of at least 1. */
  readonly rowBytes: number;
  /** Time of the whole batch, ns, positive; of several runs the median. */
  readonly measuredNs: number;
}

/** The parameters of a batch model that are measured or chosen directly rather than fitted. */
export type BatchModelFixedParts = Pick<
  BatchModelParameters,
  "unloaded" | "readThroughBytes" | "maxRequestBytes"
>;

/** Fewest observations that a fit accepts: three for each of its five terms. */
export const MIN_BATCH_OBSERVATIONS = 15;

/** Lanes tried: powers of two and one between each two; the time changes little from one to the next. */
const LANE_CANDIDATES = Object.freeze([
  1,
  2,
  3,
  4,
  6,
  8,
  12,
  16,
  24,
  32,
  48,
  64,
  96,
  128,
  192,
  MAX_LANES,
]);

/** More lanes have to lower the mean error by this share: noise must not decide. */
const LANE_GAIN = 0.01;

/** Reweighting changes little after a few rounds. */
const HUBER_ROUNDS = 6;

/** Huber's k: 95 % as precise as least squares when errors are normal, and outliers pull no harder than this. */
const HUBER_DEVIATIONS = 1.345;

/** Median absolute deviation to standard deviation, for normal errors. */
const DEVIATIONS_PER_MAD = 1.4826;

/** Relative errors below this are rounding: the fit is exact. */
const EXACT_ERROR = 1e-9;

/**
 * Fits the batch model (see `BatchModel`) to measured reads.
 *
 * Minimises the relative error `(estimate - measured) / measured`, so that small batches count as much as large
 * ones: non-negative least squares over the five weights, with a few rounds of Huber reweighting because other
 * work on the machine makes some batches slow. The number of lanes is searched between 1 and {@link MAX_LANES}
 * for the least mean absolute relative error; the fewest lanes within 1 % of that are taken.
 *
 * Terms that the observations cannot tell apart (all plans alike, say) are left at 0, and the sum of `T[s]` is the
 * last to go: the model is then the calibrated plain sum. Observations should span batches of a few chunks to
 * hundreds, and several row sizes; `table` should be steady state, without the start and the end of the batches that
 * it was measured with, or the sum is too long for large batches. Whether a fit is good is for reads to say that took no part in it.
 *
 * @param observations At least {@link MIN_BATCH_OBSERVATIONS}.
 * @param table The device's `T[s]`.
 * @param fixedParts `unloaded` may decrease, as measurements do; it is made monotone.
 * @throws LatencyModelError `INVALID_ARGUMENT` on observations, `INVALID_PROFILE` on fixed parts.
 */
export function fitBatchModel(
  observations: readonly BatchObservation[],
  table: LatencyTable,
  fixedParts: BatchModelFixedParts,
): BatchModelParameters {
  if (observations.length < MIN_BATCH_OBSERVATIONS) {
    throw new LatencyModelError("INVALID_ARGUMENT", "Invalid argument", {
      path: "observations",
      expected: `at least ${MIN_BATCH_OBSERVATIONS} reads`,
      got: String(observations.length),
      remedy: "Measure more plans, of a few chunks as well as of hundreds.",
    });
  }
  const { unloaded, readThroughBytes, maxRequestBytes } = fixedParts;
  const plain = readBatchParameters(
    {
      lanes: 1,
      fixedNs: 0,
      sumWeight: 1,
      laneWeight: 0,
      perRequestNs: 0,
      stragglerNs: 0,
      unloaded: { ...unloaded, latencyNs: monotoneLatencyNs(unloaded.latencyNs) },
      readThroughBytes,
      maxRequestBytes,
    },
    "batchModel",
  );
  const columns = measureColumns(observations, table, plain);
  const fits = LANE_CANDIDATES.map((lanes, at) => ({
    lanes,
    ...robustFit([
      columns.sum,
      columns.lane[at],
      columns.fixed,
      columns.straggler,
      columns.perRequest,
    ]),
  }));
  const leastError = Math.min(...fits.map(({ error }) => error));
  const enough = leastError * (1 + LANE_GAIN) + EXACT_ERROR;
  const { lanes, weights } = fits.find(({ error }) => error <= enough) ?? fits[0];
  const [sumWeight, laneWeight, fixedNs, stragglerNs, perRequestNs] = weights;
  return { ...plain, lanes, fixedNs, sumWeight, laneWeight, perRequestNs, stragglerNs };
}

/** What each weight contributes per unit, as a share of the measured time, `[observations]` each. */
interface Columns {
  readonly sum: Float64Array;
  /** By lane candidate. */
  readonly lane: readonly Float64Array[];
  readonly fixed: Float64Array;
  readonly perRequest: Float64Array;
  readonly straggler: Float64Array;
}

function measureColumns(
  observations: readonly BatchObservation[],
  table: LatencyTable,
  parameters: BatchModelParameters,
): Columns {
  const terms = new BatchTerms(table, parameters.unloaded, parameters);
  const column = (): Float64Array => new Float64Array(observations.length);
  const sum = column();
  const fixed = column();
  const perRequest = column();
  const straggler = column();
  const lane = LANE_CANDIDATES.map(column);
  observations.forEach(({ plan, rowBytes, measuredNs }, row) => {
    requirePositive(measuredNs, `observations[${row}].measuredNs`);
    terms.load(plan, rowBytes);
    if (terms.requests === 0) {
      throw new LatencyModelError("INVALID_ARGUMENT", "Invalid argument", {
        path: `observations[${row}].plan`,
        expected: "a plan of at least one chunk",
        got: "an empty plan",
      });
    }
    sum[row] = terms.sumNs / measuredNs;
    fixed[row] = 1 / measuredNs;
    perRequest[row] = terms.requests / measuredNs;
    straggler[row] = Math.log(terms.requests) / measuredNs;
    LANE_CANDIDATES.forEach((lanes, at) => {
      lane[at][row] = terms.busiestLaneNs(lanes) / measuredNs;
    });
  });
  return { sum, lane, fixed, perRequest, straggler };
}

/** Weights that bring the weighted sum of the columns closest to 1 everywhere, and the mean absolute miss. */
function robustFit(columns: readonly Float64Array[]): { weights: number[]; error: number } {
  const rows = columns[0].length;
  const target = new Float64Array(rows).fill(1);
  const trust = new Float64Array(rows).fill(1);
  let weights = nonNegativeLeastSquares(columns, target, trust);
  let misses = missesOf(columns, weights);
  for (let round = 0; round < HUBER_ROUNDS; round++) {
    const bound = HUBER_DEVIATIONS * DEVIATIONS_PER_MAD * median(misses);
    if (bound < EXACT_ERROR) break;
    misses.forEach((miss, row) => (trust[row] = miss <= bound ? 1 : bound / miss));
    weights = nonNegativeLeastSquares(columns, target, trust);
    misses = missesOf(columns, weights);
  }
  return { weights, error: misses.reduce((sum, miss) => sum + miss, 0) / rows };
}

function missesOf(columns: readonly Float64Array[], weights: readonly number[]): Float64Array {
  const misses = new Float64Array(columns[0].length).fill(-1);
  columns.forEach((column, at) => {
    for (let row = 0; row < misses.length; row++) misses[row] += weights[at] * column[row];
  });
  return misses.map(Math.abs);
}

function median(values: Float64Array): number {
  const sorted = values.slice().sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
