/** A pivot below this share of a unit column says that the column is a combination of the others. */
const SINGULAR_PIVOT = 1e-10;

/** A mean squared residual is no better than another one unless by this: (1e-6)^2, rounding. */
const TIE_MEAN_SQUARE = 1e-12;

/**
 * Non-negative least squares: the `x >= 0` that minimises
 * `sum over i of weights[i] * (sum over k of x[k] * columns[k][i] - target[i])^2`.
 *
 * The minimum is an ordinary least-squares solution over the columns that it uses, so with a handful of
 * columns every subset is solved and the best feasible one taken: exact, and nothing to converge. Subsets
 * are tried from small to large and in the order of `columns`, and ties (`target` is taken to be about 1)
 * stay with the earlier one: columns that the data cannot tell apart get 0, the last ones first.
 *
 * @param columns At most 8, each as long as `target`.
 * @param weights At least 0, one per row.
 * @returns One coefficient per column; all 0 when no column helps.
 */
export function nonNegativeLeastSquares(
  columns: readonly Float64Array[],
  target: Float64Array,
  weights: Float64Array,
): number[] {
  const { gram, projection, squaredTarget, norms } = normalEquations(columns, target, weights);
  const tie = TIE_MEAN_SQUARE * target.length;
  let best = new Array<number>(columns.length).fill(0);
  let bestLoss = squaredTarget;
  for (const subset of subsetsBySize(columns.length)) {
    const solution = solveSubset(gram, projection, subset);
    if (solution === undefined || solution.some((value) => value < 0)) continue;
    // At a least-squares solution the residual is what the projection leaves of the target.
    let loss = squaredTarget;
    subset.forEach((column, at) => (loss -= solution[at] * projection[column]));
    if (loss >= bestLoss - tie) continue;
    bestLoss = loss;
    best = new Array<number>(columns.length).fill(0);
    subset.forEach((column, at) => (best[column] = solution[at] / norms[column]));
  }
  return best;
}

/** The normal equations of the columns scaled to unit norm, so that one threshold fits all. */
function normalEquations(
  columns: readonly Float64Array[],
  target: Float64Array,
  weights: Float64Array,
) {
  const dot = (a: Float64Array, b: Float64Array): number => {
    let sum = 0;
    for (let row = 0; row < target.length; row++) sum += weights[row] * a[row] * b[row];
    return sum;
  };
  const norms = columns.map((column) => Math.sqrt(dot(column, column)) || 1);
  const gram = columns.map((a, i) => columns.map((b, j) => dot(a, b) / (norms[i] * norms[j])));
  const projection = columns.map((column, i) => dot(column, target) / norms[i]);
  return { gram, projection, squaredTarget: dot(target, target), norms };
}

/** Gaussian elimination of the symmetric system over `subset`; undefined when it is singular. */
function solveSubset(
  gram: readonly (readonly number[])[],
  projection: readonly number[],
  subset: readonly number[],
): number[] | undefined {
  const size = subset.length;
  const matrix = subset.map((i) => subset.map((j) => gram[i][j]));
  const right = subset.map((i) => projection[i]);
  for (let pivot = 0; pivot < size; pivot++) {
    if (!(matrix[pivot][pivot] > SINGULAR_PIVOT)) return undefined;
    for (let row = pivot + 1; row < size; row++) {
      const factor = matrix[row][pivot] / matrix[pivot][pivot];
      for (let column = pivot; column < size; column++) {
        matrix[row][column] -= factor * matrix[pivot][column];
      }
      right[row] -= factor * right[pivot];
    }
  }
  for (let row = size - 1; row >= 0; row--) {
    for (let column = row + 1; column < size; column++) {
      right[row] -= matrix[row][column] * right[column];
    }
    right[row] /= matrix[row][row];
  }
  return right;
}

/** The non-empty subsets of `0 .. count - 1`, smaller ones first, then in lexical order. */
function subsetsBySize(count: number): number[][] {
  const all = Array.from({ length: 2 ** count - 1 }, (_, at) =>
    Array.from({ length: count }, (_, member) => member).filter((m) => ((at + 1) >> m) & 1),
  );
  const byContent = (a: number[], b: number[]): number => {
    const differs = a.findIndex((member, at) => member !== b[at]);
    return differs < 0 ? 0 : a[differs] - b[differs];
  };
  return all.sort((a, b) => a.length - b.length || byContent(a, b));
}
