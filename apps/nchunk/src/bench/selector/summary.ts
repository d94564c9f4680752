import type { SelectorCase } from "./compare";
import type { SelectionTimes } from "./timing";

/** How many of the worst cases are named. */
const WORST = 5;
/** A ratio above 1 by no more than this is rounding. */
const NOT_WORSE = 1 + 1e-9;

/** Mean ratio of `lagrange` to Algorithm 1 over a part of the grid. */
export interface PartMean {
  readonly name: string;
  readonly cases: number;
  readonly lagrangeToChunkMean: number;
  /** Of top-k to Algorithm 1, so that the paper's own gain can be seen beside ours. */
  readonly topkToChunkMean: number;
}

export interface SelectorSummary {
  /** Over the grid, without the degenerate inputs, which would only flatter it. */
  readonly lagrangeToChunkMean: number;
  /** Over the grid and the degenerate inputs. */
  readonly lagrangeToBestMax: number;
  /** Over the cases of both whose optimum was proven; null if none was. */
  readonly lagrangeToExactMax: number | null;
  /** By `{rows}x{rowBytes}`. */
  readonly selectNs: Readonly<Record<string, SelectionTimes>>;
  readonly lagrangeToBestMean: number;
  /** Share of the grid's cases in which `lagrange` is faster than Algorithm 1. */
  readonly fasterThanChunk: number;
  /** Cases of both kinds in which it is slower than the better of top-k and Algorithm 1. */
  readonly slowerThanBest: number;
  /** Over the grid: how far it can be from the optimum at most, by the selector's own bound. */
  readonly lagrangeToBoundMean: number | null;
  readonly lagrangeToBoundMax: number | null;
  readonly exact: {
    readonly tried: number;
    readonly proven: number;
    readonly lagrangeToExactMean: number | null;
  };
  readonly byDevice: readonly PartMean[];
  readonly byOrder: readonly PartMean[];
  readonly byVariation: readonly PartMean[];
  readonly byKeep: readonly PartMean[];
  readonly byShape: readonly PartMean[];
  /** Where `lagrange` does worst, by each ratio, worst first. */
  readonly worst: {
    readonly toChunk: readonly SelectorCase[];
    readonly toBest: readonly SelectorCase[];
    readonly toExact: readonly SelectorCase[];
  };
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** A loop, as spreading thousands of arguments would not do. */
const most = (values: readonly number[]): number =>
  values.reduce((highest, value) => Math.max(highest, value), -Infinity);

type Ratio = (one: SelectorCase) => number;
const toChunk: Ratio = ({ lagrangeToChunk }) => lagrangeToChunk;
const toBest: Ratio = ({ lagrangeToBest }) => lagrangeToBest;
const toExact: Ratio = ({ lagrangeToExact }) => lagrangeToExact ?? 0;

const worstBy = (cases: readonly SelectorCase[], ratio: Ratio): SelectorCase[] =>
  [...cases].sort((a, b) => ratio(b) - ratio(a)).slice(0, WORST);

function meansBy(
  cases: readonly SelectorCase[],
  nameOf: (one: SelectorCase) => string,
): PartMean[] {
  const parts = new Map<string, SelectorCase[]>();
  for (const one of cases) {
    const name = nameOf(one);
    const part = parts.get(name);
    if (part) part.push(one);
    else parts.set(name, [one]);
  }
  return [...parts].map(([name, part]) => ({
    name,
    cases: part.length,
    lagrangeToChunkMean: mean(part.map(toChunk)),
    topkToChunkMean: mean(part.map(({ topk, chunk }) => topk.latencyNs / chunk.latencyNs)),
  }));
}

export function summarise(
  cases: readonly SelectorCase[],
  selectNs: Readonly<Record<string, SelectionTimes>>,
): SelectorSummary {
  const grid = cases.filter(({ kind }) => kind === "grid");
  const proven = cases.filter(({ lagrangeToExact }) => lagrangeToExact !== null);
  const bounded = grid.flatMap(({ lagrangeToBound }) => lagrangeToBound ?? []);
  return {
    lagrangeToChunkMean: mean(grid.map(toChunk)),
    lagrangeToBestMax: most(cases.map(toBest)),
    lagrangeToExactMax: proven.length > 0 ? most(proven.map(toExact)) : null,
    selectNs,
    lagrangeToBestMean: mean(grid.map(toBest)),
    fasterThanChunk: mean(grid.map((one) => (toChunk(one) < 1 ? 1 : 0))),
    slowerThanBest: cases.filter((one) => toBest(one) > NOT_WORSE).length,
    lagrangeToBoundMean: bounded.length > 0 ? mean(bounded) : null,
    lagrangeToBoundMax: bounded.length > 0 ? most(bounded) : null,
    exact: {
      tried: cases.filter(({ exact }) => exact !== null).length,
      proven: proven.length,
      lagrangeToExactMean: proven.length > 0 ? mean(proven.map(toExact)) : null,
    },
    byDevice: meansBy(grid, ({ device }) => device),
    byOrder: meansBy(grid, ({ order }) => order),
    byVariation: meansBy(grid, ({ variation }) => String(variation)),
    byKeep: meansBy(grid, ({ keep }) => String(keep)),
    byShape: meansBy(grid, ({ rows, cols }) => `${rows}x${cols}`),
    worst: {
      toChunk: worstBy(grid, toChunk),
      toBest: worstBy(cases, toBest),
      toExact: worstBy(proven, toExact),
    },
  };
}
