/** Rounds of alternating projections; the fit moves by less than 0.01 % after a few dozen. */
const FIT_ROUNDS = 64;

/**
 * The closest sequence to `values` (least squares) that never falls, by pooling adjacent violators.
 */
function nonDecreasing(values: Float64Array): Float64Array {
  const sums: number[] = [];
  const counts: number[] = [];
  for (const value of values) {
    sums.push(value);
    counts.push(1);
    for (let top = sums.length - 1; top > 0; top--) {
      if (sums[top - 1] / counts[top - 1] <= sums[top] / counts[top]) break;
      sums[top - 1] += sums.pop() as number;
      counts[top - 1] += counts.pop() as number;
    }
  }
  const fitted = new Float64Array(values.length);
  let at = 0;
  sums.forEach((sum, block) => {
    fitted.fill(sum / counts[block], at, at + counts[block]);
    at += counts[block];
  });
  return fitted;
}

/**
 * Makes measured latencies physically sensible (FLASH_IO.md P3): a larger read never costs less
 * (T non-decreasing) and never costs more per byte (T/s non-increasing). Among all such tables it
 * returns one close to the measurements in relative terms: least squares of log T, by Dykstra's
 * alternating projections, then one exact pass.
 *
 * @param sizesBytes Ascending, positive.
 * @param latencyNs Positive, one per size: robust ones, medians for example.
 */
export function fitLatencyNs(
  sizesBytes: readonly number[],
  latencyNs: readonly number[],
): number[] {
  const count = sizesBytes.length;
  const logSize = Float64Array.from(sizesBytes, Math.log);
  let fitted = Float64Array.from(latencyNs, Math.log);
  let owedRising = new Float64Array(count);
  let owedFalling = new Float64Array(count);
  for (let round = 0; round < FIT_ROUNDS; round++) {
    const towardsRising = fitted.map((value, i) => value + owedRising[i]);
    const rising = nonDecreasing(towardsRising);
    owedRising = towardsRising.map((value, i) => value - rising[i]);
    const towardsFalling = rising.map((value, i) => value + owedFalling[i]);
    // T/s falls exactly when log s - log T rises.
    const perByte = nonDecreasing(towardsFalling.map((value, i) => logSize[i] - value));
    fitted = perByte.map((value, i) => logSize[i] - value);
    owedFalling = towardsFalling.map((value, i) => value - fitted[i]);
  }
  const table = Array.from(fitted, Math.exp);
  for (let i = 1; i < count; i++) {
    const most = table[i - 1] * (sizesBytes[i] / sizesBytes[i - 1]);
    table[i] = Math.max(table[i - 1], Math.min(table[i], most));
  }
  return table;
}
