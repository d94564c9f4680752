import fc from "fast-check";

/** Least sum of run latencies over all subsets of rows with at least `target` importance, by trying every subset. */
export function bruteForceLatencyNs(
  importance: ArrayLike<number>,
  runNs: ArrayLike<number>,
  target: number,
): number {
  const rows = importance.length;
  let least = Infinity;
  for (let mask = 0; mask < 2 ** rows; mask++) {
    let sum = 0;
    let latencyNs = 0;
    for (let row = 0, run = 0; row <= rows; row++) {
      if (row < rows && (mask >> row) & 1) {
        sum += importance[row];
        run++;
      } else if (run > 0) {
        latencyNs += runNs[run];
        run = 0;
      }
    }
    if (sum >= target && latencyNs < least) least = latencyNs;
  }
  return least;
}

/**
 * The same for whole importances of a small sum, by a table of the least latency for each row and sum so far:
 * no bound, no price, no pruning. `O(rows^2 * target)`.
 */
export function tabledLatencyNs(
  importance: ArrayLike<number>,
  runNs: ArrayLike<number>,
  target: number,
): number {
  const rows = importance.length;
  // least[row][sum]: rows before `row` decided, the one before it left out; sums past the target count as it.
  const least = Array.from({ length: rows + 2 }, () => Array<number>(target + 1).fill(Infinity));
  least[0][0] = 0;
  for (let row = 0; row <= rows; row++) {
    for (let sum = 0; sum <= target; sum++) {
      let reached = sum;
      for (let end = row; end <= rows; end++) {
        const latencyNs = least[row][sum] + runNs[end - row];
        least[end + 1][reached] = Math.min(least[end + 1][reached], latencyNs);
        if (end < rows) reached = Math.min(target, reached + importance[end]);
      }
    }
  }
  return least[rows + 1][target];
}

/** Latency by run length, `[rows + 1]`, non-decreasing in whole ns, of the shapes that make selection hard. */
export function runLatencies(rows: number): fc.Arbitrary<number[]> {
  const steps = (step: fc.Arbitrary<number>): fc.Arbitrary<number[]> =>
    fc.array(step, { minLength: rows, maxLength: rows });
  const positive = fc.integer({ min: 1, max: 1000 });
  return fc
    .oneof(
      // Concave: each row costs no more than the one before.
      steps(positive).map((costs) => costs.sort((left, right) => right - left)),
      // Convex kinks: each costs no less, so that two short runs beat a long one.
      steps(positive).map((costs) => costs.sort((left, right) => left - right)),
      // Jumps between flat stretches: not subadditive, and full of ties.
      steps(fc.constantFrom(0, 0, 0, 1, 500)),
      // A flat start, as below one device block, then affine.
      fc
        .tuple(positive, positive, fc.nat(rows))
        .map(([base, slope, flat]) =>
          Array.from({ length: rows }, (_, row) => (row === 0 ? base : row < flat ? 0 : slope)),
        ),
      // Proportional, so that only the choice of rows counts, and free of any shape.
      positive.map((slope) => Array<number>(rows).fill(slope)),
      steps(fc.nat(1000)),
    )
    .map((costs) => {
      const runNs = [0];
      for (const cost of costs) runNs.push(Math.max(1, runNs[runNs.length - 1] + cost));
      return runNs;
    });
}

/**
 * `[rows]` importances that are multiples of 2^-10, so that every sum is exact in any order and a subset that only
 * just reaches a target does so in every implementation.
 */
export function exactImportances(rows: number): fc.Arbitrary<Float32Array> {
  const grid = fc.integer({ min: 0, max: 2 ** 13 }).map((value) => value / 2 ** 10);
  const many = (value: fc.Arbitrary<number>): fc.Arbitrary<number[]> =>
    fc.array(value, { minLength: rows, maxLength: rows });
  return fc
    .oneof(
      many(grid),
      many(fc.integer({ min: 0, max: 3 })),
      // All equal, zeros included.
      fc.integer({ min: 0, max: 3 }).map((value) => Array<number>(rows).fill(value)),
      // One spike.
      fc
        .tuple(fc.nat(rows - 1), fc.nat(1))
        .map(([at, rest]) => Array.from({ length: rows }, (_, row) => (row === at ? 1000 : rest))),
      many(grid).map((values) => values.sort((left, right) => right - left)),
      // Every other row: a long run pays for as many useless rows as useful ones.
      many(grid).map((values) => values.map((value, row) => (row % 2 === 0 ? value : 0))),
      // Powers of two: every subset has its own sum, so nothing is beaten by chance.
      fc.shuffledSubarray(
        Array.from({ length: rows }, (_, row) => 2 ** row),
        { minLength: rows, maxLength: rows },
      ),
    )
    .map((values) => Float32Array.from(values));
}
