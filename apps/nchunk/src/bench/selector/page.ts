import { LatencyTable, type DeviceProfile } from "@neuron-chunking/latency-model";
import {
  legendOf,
  renderChartSection,
  renderDocument,
  renderTable,
} from "../../html-page/document";
import { formatNs, formatPercent } from "../../terminal/format";
import type { SelectorReport } from "./bench-selector";
import { contiguityChart, curveChart, POLICY_TITLES, ratioChart } from "./charts";
import type { SelectorCase } from "./compare";
import { nameOfCase } from "./describe";
import { drawFigures } from "./figures";
import { masksChart } from "./masks";
import type { PartMean } from "./summary";

function numbersSection({ summary }: SelectorReport): string {
  const { lagrangeToChunkMean, lagrangeToBestMax, lagrangeToExactMax, exact } = summary;
  const parts = ({
    name,
    cases,
    lagrangeToChunkMean: ours,
    topkToChunkMean,
  }: PartMean): string[] => [name, String(cases), ours.toFixed(3), topkToChunkMean.toFixed(2)];
  const text =
    `At equal importance lagrange takes ${formatPercent(lagrangeToChunkMean)} of Algorithm 1's modelled latency on average ` +
    `and at worst ${lagrangeToBestMax.toFixed(4)} of the better of it and top-k; ` +
    (lagrangeToExactMax === null
      ? "no optimum was proven in the time there was."
      : `at worst ${lagrangeToExactMax.toFixed(4)} of the optimum where that could be proven (${exact.proven} cases).`);
  const table = renderTable(
    ["part", "cases", "lagrange over Algorithm 1", "top-k over Algorithm 1"],
    [...summary.byOrder, ...summary.byDevice, ...summary.byVariation, ...summary.byShape].map(
      parts,
    ),
  );
  return `<section id="numbers"><h2>In numbers</h2><p>${text}</p><details><summary>Means by part</summary>${table}</details></section>`;
}

function timesSection({ summary, timedDevice }: SelectorReport): string {
  const rows = Object.entries(summary.selectNs).map(([shape, times]) => [
    shape.replace("x", " rows x ") + " B",
    ...[times.price, times.budget, times.importanceTarget, times.chunk].map(formatNs),
  ]);
  const table = renderTable(
    ["matrix", "at a price", "row budget", "importance", "Algorithm 1"],
    rows,
  );
  return `<section id="times"><h2>Time of one selection</h2><p>Medians on one thread with ${timedDevice}'s table, another input each time.</p>${table}</section>`;
}

function worstSection({ summary }: SelectorReport): string {
  const rows = (title: string, cases: readonly SelectorCase[], ratio: keyof SelectorCase) =>
    cases.map((one) => [title, nameOfCase(one), Number(one[ratio]).toFixed(4)]);
  const table = renderTable(
    ["ratio", "case", "value"],
    [
      ...rows("over Algorithm 1", summary.worst.toChunk, "lagrangeToChunk"),
      ...rows("over the better of it and top-k", summary.worst.toBest, "lagrangeToBest"),
      ...rows("over the optimum", summary.worst.toExact, "lagrangeToExact"),
    ],
  );
  return `<section id="worst"><h2>Where lagrange does worst</h2>${table}</section>`;
}

/**
 * The comparison as one page that needs nothing else; it draws what the paper's figures 1, 9, 10 and 15 draw.
 *
 * @param profile The device whose masks and curves are drawn.
 */
export function renderSelectorPage(report: SelectorReport, profile: DeviceProfile): string {
  const figures = drawFigures(new LatencyTable(profile));
  const { shape, device, variation, keep } = figures;
  const matrix = `${shape.rows} rows of ${shape.rowBytes} B, importances of variation ${variation}, on ${device}`;
  const policies = legendOf(Object.values(POLICY_TITLES)).map(
    ([name, color]) => [name, color] as const,
  );
  return renderDocument("Chunk selection: lagrange, Algorithm 1 and top-k", [
    numbersSection(report),
    renderChartSection({
      id: "masks",
      title: "Masks before and after",
      text: `Each mark is a selected row, read line by line; ${matrix}. Algorithm 1 may take ${Math.round(100 * keep)} % of the rows; the others reach its importance. Below, the same importances with the rows in hot-cold order.`,
      svg: masksChart(figures),
    }),
    renderChartSection({
      id: "contiguity",
      title: "Contiguity distributions",
      text: "Sizes of the chunks of these masks. The solid line is the mean, the dashed one the mode.",
      svg: contiguityChart(figures),
    }),
    renderChartSection({
      id: "curves",
      title: "Importance against latency",
      text: `What each policy keeps for its modelled latency; ${matrix}.`,
      legend: policies,
      svg: curveChart(figures),
    }),
    renderChartSection({
      id: "ratios",
      title: "Distribution of the ratios",
      text: `Modelled latency of lagrange at Algorithm 1's importance, over ${report.cases.filter(({ kind }) => kind === "grid").length} cases; left of the dashed line lagrange is faster, right of it slower.`,
      svg: ratioChart(report.cases),
    }),
    timesSection(report),
    worstSection(report),
  ]);
}
