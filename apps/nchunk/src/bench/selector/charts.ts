import * as Plot from "@observablehq/plot";
import type { ContiguityDistribution } from "@neuron-chunking/latency-model";
import { drawSvg, formatTimeTick, SERIES_COLORS, seriesColors, SOFT } from "../../html-page/chart";
import type { SelectorCase } from "./compare";
import {
  FIGURE_ORDERS,
  FIGURE_POLICIES,
  type CurvePoint,
  type FigureOrder,
  type FigurePlan,
  type FigurePolicy,
  type Figures,
} from "./figures";

export const POLICY_TITLES: Record<FigurePolicy, string> = {
  topk: "top-k",
  chunk: "Algorithm 1",
  lagrange: "lagrange",
};
const TITLES = FIGURE_POLICIES.map((policy) => POLICY_TITLES[policy]);
const titleOf = ({ policy }: { policy: FigurePolicy }): string => POLICY_TITLES[policy];

/** Bins of the contiguity histogram for each doubling of the chunk size. */
const BINS_PER_OCTAVE = 2;
/** Bins of the ratio histogram, and where it ends on the left: lower ratios are counted in the first. */
const RATIO_BIN = 0.01;
const LEAST_RATIO = 0.5;

interface ContiguityBar {
  readonly policy: FigurePolicy;
  readonly order: FigureOrder;
  readonly from: number;
  readonly to: number;
  readonly share: number;
}

/** Where the bin with this number begins: whole sizes, the first few one apart. */
const binStart = (bin: number): number =>
  Math.max(bin + 1, Math.ceil(2 ** (bin / BINS_PER_OCTAVE)));

/** Share of the chunks in each bin of sizes; sizes from `from` to below `to` rows. */
export function contiguityBars({ sizes, counts, chunkCount }: ContiguityDistribution): {
  from: number;
  to: number;
  share: number;
}[] {
  const bars: { from: number; to: number; share: number }[] = [];
  let bin = 0;
  for (let slot = 0; slot < sizes.length; slot += 1) {
    while (binStart(bin + 1) <= sizes[slot]) bin += 1;
    const last = bars.at(-1);
    const share = counts[slot] / chunkCount;
    if (last?.from === binStart(bin)) last.share += share;
    else bars.push({ from: binStart(bin), to: binStart(bin + 1), share });
  }
  return bars;
}

/** Contiguity distributions by policy (down) and order (across), with mean and mode. */
export function contiguityChart({ plans }: Figures): string {
  const bars = plans.flatMap(({ policy, order, contiguity }) =>
    contiguityBars(contiguity).map((bar): ContiguityBar => ({ policy, order, ...bar })),
  );
  const facet = { fx: "order", fy: titleOf };
  const summaryOf = ({ contiguity }: FigurePlan): string =>
    `${contiguity.chunkCount} chunks, mean ${contiguity.meanRows.toFixed(1)} rows, mode ${contiguity.modeRows}`;
  return drawSvg(
    "Histograms of chunk sizes for top-k, Algorithm 1 and lagrange, before and after hot-cold reordering",
    {
      height: 460,
      marginRight: 90,
      fx: { label: null, domain: [...FIGURE_ORDERS] },
      fy: { label: null, domain: TITLES },
      x: {
        type: "log",
        base: 2,
        grid: true,
        label: "rows in a chunk",
        labelAnchor: "center",
        labelArrow: "none",
        tickFormat: "d",
      },
      y: {
        label: "share of the chunks, %",
        labelArrow: "none",
        grid: true,
        percent: true,
        ticks: 3,
      },
      color: seriesColors(TITLES),
      marks: [
        Plot.rect(bars, {
          ...facet,
          x1: "from",
          x2: "to",
          y1: 0,
          y2: "share",
          fill: titleOf,
          inset: 0.5,
        }),
        Plot.ruleX(plans, {
          ...facet,
          x: ({ contiguity }: FigurePlan) => contiguity.meanRows,
          strokeWidth: 1.5,
        }),
        Plot.ruleX(plans, {
          ...facet,
          x: ({ contiguity }: FigurePlan) => contiguity.modeRows,
          strokeWidth: 1.5,
          strokeDasharray: "3 3",
        }),
        Plot.text(plans, {
          ...facet,
          frameAnchor: "top-right",
          text: summaryOf,
          dy: 2,
          fill: "currentColor",
          stroke: "var(--card)",
          strokeWidth: 4,
          fontSize: 11,
        }),
      ],
    },
  );
}

/** Share of the importance against modelled latency, by order (across). */
export function curveChart({ curves, denseNs }: Figures): string {
  const dense = FIGURE_ORDERS.map((order) => ({ order, latencyNs: denseNs, importance: 1 }));
  return drawSvg("Importance kept against modelled latency for top-k, Algorithm 1 and lagrange", {
    height: 380,
    marginTop: 44,
    fx: { label: null, domain: [...FIGURE_ORDERS], padding: 0.12 },
    x: {
      label: "modelled latency",
      labelAnchor: "center",
      labelArrow: "none",
      grid: true,
      zero: true,
      ticks: 5,
      tickFormat: formatTimeTick,
    },
    y: {
      label: "share of the importance, %",
      labelArrow: "none",
      grid: true,
      percent: true,
      domain: [0, 100],
    },
    color: seriesColors(TITLES),
    marks: [
      Plot.line(curves, {
        fx: "order",
        x: "latencyNs",
        y: "importance",
        stroke: titleOf,
        z: titleOf,
        sort: ({ importance }: CurvePoint) => importance,
        strokeWidth: 2,
      }),
      Plot.dot(dense, { fx: "order", x: "latencyNs", y: "importance", r: 5, fill: SOFT }),
      Plot.text(dense, {
        fx: "order",
        x: "latencyNs",
        y: "importance",
        text: () => "dense",
        textAnchor: "end",
        dx: -9,
        fill: SOFT,
      }),
    ],
  });
}

const RATIOS = {
  "over Algorithm 1": ({ lagrangeToChunk }: SelectorCase) => lagrangeToChunk,
  "over the better of it and top-k": ({ lagrangeToBest }: SelectorCase) => lagrangeToBest,
} as const;

/** How often each ratio occurs in the grid, by order of the rows (down) and by what is compared with (across). */
export function ratioChart(cases: readonly SelectorCase[]): string {
  const grid = cases.filter(({ kind }) => kind === "grid");
  const bars = Object.entries(RATIOS).flatMap(([title, ratioOf]) => {
    const bins = new Map<string, number>();
    for (const one of grid) {
      // A bin holds its upper end, so that what is equal does not stand among what is slower.
      const bin = Math.ceil(Math.max(LEAST_RATIO, ratioOf(one)) / RATIO_BIN - 1e-6);
      const key = `${one.order} ${bin}`;
      bins.set(key, (bins.get(key) ?? 0) + 1);
    }
    return [...bins].map(([key, count]) => {
      const [order, bin] = key.split(" ");
      return {
        title,
        order,
        from: (Number(bin) - 1) * RATIO_BIN,
        to: Number(bin) * RATIO_BIN,
        count,
      };
    });
  });
  const orders = [...new Set(grid.map(({ order }) => order))];
  return drawSvg(
    "Histogram of lagrange's modelled latency as a ratio, over all cases of the grid",
    {
      height: 420,
      marginTop: 44,
      marginRight: 90,
      fx: { label: null, domain: Object.keys(RATIOS), padding: 0.1 },
      fy: { label: null, domain: orders },
      x: {
        label: "ratio of latencies at equal importance",
        labelAnchor: "center",
        labelArrow: "none",
        grid: true,
      },
      y: { label: "cases", labelArrow: "none", grid: true, ticks: 3 },
      marks: [
        Plot.rect(bars, {
          fx: "title",
          fy: "order",
          x1: "from",
          x2: "to",
          y1: 0,
          y2: "count",
          fill: SERIES_COLORS[2],
          inset: 0.3,
        }),
        Plot.ruleX([1], { stroke: SOFT, strokeDasharray: "4 4" }),
      ],
    },
  );
}
