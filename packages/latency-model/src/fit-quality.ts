import { describeValue, LatencyModelError, requireFinite, requirePositive } from "./errors.js";
import type { FitQuality } from "./profile-evidence.js";

/**
 * How close estimates came to measurements.
 *
 * - `r2 = 1 - sum((m - e)^2) / sum((m - mean(m))^2)`, the coefficient of determination of the estimates as they
 *   are. It is not the squared correlation, which would forgive any scale and offset. When all measurements are
 *   equal: 1 if every estimate is exact, else 0.
 * - `mape = mean(|e - m| / m)`, the mean absolute error as a share: 0.08 is 8 %.
 *
 * @param measuredNs Measured times `m`, ns, positive.
 * @param estimatedNs Estimates `e`, ns, at least 0, one per measurement.
 * @throws LatencyModelError `INVALID_ARGUMENT`.
 */
export function fitQuality(
  measuredNs: ArrayLike<number>,
  estimatedNs: ArrayLike<number>,
): FitQuality {
  checkPairs(measuredNs, estimatedNs);
  const count = measuredNs.length;
  let meanNs = 0;
  for (let index = 0; index < count; index++) meanNs += measuredNs[index] / count;
  let residual = 0;
  let total = 0;
  let shares = 0;
  let varies = false;
  for (let index = 0; index < count; index++) {
    const errorNs = estimatedNs[index] - measuredNs[index];
    residual += errorNs ** 2;
    total += (measuredNs[index] - meanNs) ** 2;
    shares += Math.abs(errorNs) / measuredNs[index];
    varies ||= measuredNs[index] !== measuredNs[0];
  }
  const r2WhenEqual = residual === 0 ? 1 : 0;
  return { r2: varies ? 1 - residual / total : r2WhenEqual, mape: shares / count };
}

/**
 * The factor that brings estimates closest to measurements: `b` that minimises `sum(((b * e - m) / m)^2)`, which
 * is `sum(e / m) / sum((e / m)^2)`.
 *
 * The paper allows the plain sum of `T[s]` such a proportional bias (App. D: R^2 of 0.83 to 0.995), because it
 * does not change how plans rank. To report on the sum, multiply its estimates by this first.
 *
 * @param measuredNs Measured times `m`, ns, positive.
 * @param estimatedNs Estimates `e`, ns, at least 0 and not all 0, one per measurement.
 * @throws LatencyModelError `INVALID_ARGUMENT`.
 */
export function proportionalBias(
  measuredNs: ArrayLike<number>,
  estimatedNs: ArrayLike<number>,
): number {
  checkPairs(measuredNs, estimatedNs);
  let sum = 0;
  let squares = 0;
  for (let index = 0; index < measuredNs.length; index++) {
    const share = estimatedNs[index] / measuredNs[index];
    sum += share;
    squares += share ** 2;
  }
  if (squares === 0) throw argumentError("estimatedNs", "not all 0", "only zeros");
  return sum / squares;
}

function checkPairs(measuredNs: ArrayLike<number>, estimatedNs: ArrayLike<number>): void {
  if (measuredNs.length === 0) throw argumentError("measuredNs", "non-empty", "no measurements");
  if (estimatedNs.length !== measuredNs.length) {
    const expected = `as long as measuredNs (${measuredNs.length})`;
    throw argumentError("estimatedNs", expected, describeValue(estimatedNs.length));
  }
  for (let index = 0; index < measuredNs.length; index++) {
    requirePositive(measuredNs[index], `measuredNs[${index}]`);
    requireFinite(estimatedNs[index], `estimatedNs[${index}]`, 0);
  }
}

function argumentError(path: string, expected: string, got: string): LatencyModelError {
  return new LatencyModelError("INVALID_ARGUMENT", "Invalid argument", { path, expected, got });
}
