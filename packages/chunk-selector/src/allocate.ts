import { ChunkSelectorError } from "./errors.js";

/** Steps in which sparsity is handed out, as a share of a group's bytes. */
const DEFAULT_STEP_SHARE = 0.01;
/** Shares below this are rounding. */
const EPSILON = 1e-12;

/** How much one projection's sparsity costs its block. */
export interface SparsityCurve {
  /** Stored matrix, such as `layers.3.mlp_in`. */
  readonly name: string;
  /** Projections of one group (a decoder layer) share the group's overall sparsity, as in TEAL. */
  readonly group: number;
  /** Bytes of the whole matrix, above 0: what leaving out a share of its rows saves. */
  readonly sizeBytes: number;
  /**
   * Block output error with only this projection sparsified, by ascending sparsity in (0, 1], at least one. Linear in
   * between, 0 at sparsity 0; nothing beyond the last point is given out.
   */
  readonly points: readonly { readonly sparsity: number; readonly error: number }[];
}

/** Sparsities that together leave out the asked share of bytes. */
export interface SparsityAllocation {
  /** Share of all bytes left out, in [0, 1]. */
  readonly sparsity: number;
  /** Sum over groups of the estimated block errors, divided by the number of groups. */
  readonly error: number;
  /** By name, each in [0, 1]. */
  readonly sparsities: Readonly<Record<string, number>>;
}

/**
 * TEAL's greedy allocation (paper section 4.1; Liu et al., "Training-Free Activation Sparsity in Large Language
 * Models", Algorithm 1): in each group all sparsities start at 0; step by step the projection whose block
 * error grows least gives up the next `stepShare` of the group's bytes, until the group's share is given up. As every
 * step costs the same bytes, a small matrix moves faster than a large one.
 *
 * The block error of several sparsified projections is taken as the sum of what each causes alone, whereas TEAL
 * runs the block anew for every try. The greedy choice is optimal (to one step) where the curves are convex;
 * where they are not, it can be worse than the best allocation. A larger overall sparsity continues the same
 * path, so no projection's sparsity ever shrinks with it.
 *
 * Cost: O(projections / stepShare) per group.
 *
 * @param overallSparsity Share of each group's bytes to leave out, in [0, 1].
 * @throws ChunkSelectorError `INVALID_REQUEST` naming the field; also when the curves' last points leave out less.
 */
export function allocateSparsity(
  curves: readonly SparsityCurve[],
  overallSparsity: number,
  { stepShare = DEFAULT_STEP_SHARE }: { readonly stepShare?: number } = {},
): SparsityAllocation {
  requireShare(overallSparsity, "overallSparsity", 0);
  requireShare(stepShare, "stepShare", EPSILON);
  if (curves.length === 0) throw invalid("curves", "at least one curve", "none");
  curves.forEach(checkCurve);
  const groups = new Map<number, SparsityCurve[]>();
  for (const curve of curves) {
    const group = groups.get(curve.group);
    if (group === undefined) groups.set(curve.group, [curve]);
    else group.push(curve);
  }
  const sparsities: Record<string, number> = {};
  let error = 0;
  for (const group of groups.values()) {
    error += allocateGroup(group, overallSparsity, stepShare, sparsities);
  }
  const sizeBytes = curves.reduce((sum, curve) => sum + curve.sizeBytes, 0);
  const leftOut = curves.reduce((sum, c) => sum + c.sizeBytes * sparsities[c.name], 0);
  return { sparsity: leftOut / sizeBytes, error: error / groups.size, sparsities };
}

/**
 * Error of one projection at a sparsity, by its curve; constant beyond the last point.
 *
 * @param sparsity In [0, 1].
 */
export function errorAtSparsity(points: SparsityCurve["points"], sparsity: number): number {
  let from = { sparsity: 0, error: 0 };
  for (const to of points) {
    if (sparsity <= to.sparsity) {
      const share = (sparsity - from.sparsity) / (to.sparsity - from.sparsity);
      return from.error + share * (to.error - from.error);
    }
    from = to;
  }
  return from.error;
}

/** Writes the group's sparsities into `sparsities` and returns its block error. */
function allocateGroup(
  group: readonly SparsityCurve[],
  overallSparsity: number,
  stepShare: number,
  sparsities: Record<string, number>,
): number {
  const groupBytes = group.reduce((sum, curve) => sum + curve.sizeBytes, 0);
  const given = new Float64Array(group.length);
  let left = overallSparsity;
  while (left > EPSILON) {
    let best = -1;
    let bestRate = Infinity;
    let bestStep = 0;
    for (let i = 0; i < group.length; i++) {
      const { points, sizeBytes } = group[i];
      const room = points[points.length - 1].sparsity - given[i];
      const step = Math.min((stepShare * groupBytes) / sizeBytes, room);
      if (step <= EPSILON) continue;
      const rise = errorAtSparsity(points, given[i] + step) - errorAtSparsity(points, given[i]);
      const rate = rise / (step * sizeBytes);
      if (rate < bestRate) [best, bestRate, bestStep] = [i, rate, step];
    }
    if (best < 0) {
      const most = overallSparsity - left;
      throw invalid("overallSparsity", `at most ${most}, where the curves end`, overallSparsity);
    }
    // Chosen by the whole step even where less is left, so that larger sparsities continue the same path.
    const bestShare = group[best].sizeBytes / groupBytes;
    const step = Math.min(bestStep, left / bestShare);
    given[best] += step;
    left -= step * bestShare;
  }
  group.forEach(({ name }, i) => (sparsities[name] = Math.min(1, given[i])));
  return group.reduce((sum, { points }, i) => sum + errorAtSparsity(points, given[i]), 0);
}

function checkCurve({ name, sizeBytes, points }: SparsityCurve, index: number): void {
  const path = `curves[${index}]`;
  if (!(sizeBytes > 0 && Number.isFinite(sizeBytes))) {
    throw invalid(`${path}.sizeBytes`, `above 0 (${name})`, sizeBytes);
  }
  if (points.length === 0) throw invalid(`${path}.points`, `at least one point (${name})`, "none");
  let last = 0;
  points.forEach(({ sparsity, error }, at) => {
    if (!(sparsity > last && sparsity <= 1)) {
      throw invalid(`${path}.points[${at}].sparsity`, `above ${last} and at most 1`, sparsity);
    }
    if (!(error >= 0 && Number.isFinite(error))) {
      throw invalid(`${path}.points[${at}].error`, "finite and at least 0", error);
    }
    last = sparsity;
  });
}

function requireShare(value: number, path: string, least: number): void {
  if (value >= least && value <= 1) return;
  throw invalid(path, least > 0 ? "above 0 and at most 1" : "from 0 to 1", value);
}

function invalid(path: string, expected: string, got: string | number): ChunkSelectorError {
  return new ChunkSelectorError("INVALID_REQUEST", { path, expected, got: String(got) });
}
